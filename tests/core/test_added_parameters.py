"""Parameters that are added to a network: they start without effect, they alone move, and their files fit one network."""

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

import monai_tta
from monai_tta import AdamW, AdaptiveInferer, Added, Careful, Consistency, GraTa, Tent
from monai_tta.core.added_files import AddedFile, AddedFileError
from monai_tta.core.auxiliary_heads import attach_heads
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import network_digest
from monai_tta.core.shadow import Shadow
from monai_tta.core.wrapper import Wrapper
from monai_tta.inference.streams import streams
from tests.small import (
    CON,
    FAST,
    LEARNERS,
    NEEDS_RUNNING_STATS,
    NORMS,
    ROWS,
    around,
    changed,
    image,
    inferer,
    network,
    run,
    same,
    saved_stump,
    state,
)

EACH_KIND = pytest.mark.parametrize("kind", ["lora", "adapter"])
MONAI = {
    "UNet": lambda d: UNet(d, 1, 3, (4, 8), (2,), num_res_units=1),
    "UNet of BatchNorm": lambda d: UNet(d, 1, 3, (4, 8), (2,), num_res_units=1, norm="batch"),
    "BasicUNet": lambda d: BasicUNet(d, 1, 3, features=(4, 4, 8, 8, 8, 4)),
    "DynUNet": lambda d: DynUNet(d, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], norm_name="instance"),
    "SegResNet": lambda d: SegResNet(d, 8, 1, 3, blocks_down=(1, 1), blocks_up=(1,)),
    "AttentionUnet": lambda d: AttentionUnet(d, 1, 3, (4, 8), (2,)),
}


def of_monai(name, dims):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MONAI[name](dims).eval()


def answers(net, x, *selections, **settings):
    """What shadows of a network with these selections answer, without gradients."""
    with torch.no_grad():
        found = []
        for select in selections:
            shadow = Shadow(net, "softmax", select)
            for key, value in settings.items():
                setattr(shadow, key, value)
            found.append(shadow(x))
    return found


def saved(net, tmp_path, kind="lora"):
    """A file of random added parameters that fit a network, and the selection that reads it."""
    select = Added(kind=kind)
    shadow = Shadow(net, "softmax", select)
    generator = torch.Generator().manual_seed(7)
    arrays = {
        key: (0.1 * torch.randn(tensor.shape, generator=generator)).numpy()
        for key, tensor in zip(shadow.names, shadow.moving, strict=True)
    }
    AddedFile(select.choices, network_digest(net), arrays).save(tmp_path / "added.npz")
    return replace(select, file=str(tmp_path / "added.npz"))


@EACH_KIND
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [*NORMS, *MONAI])
def test_a_network_predicts_the_same_bits_at_the_start(name, dims, kind):
    net = network(name, dims) if name in NORMS else of_monai(name, dims)
    x = image(dims, 8 if name in NORMS else 32, n=2)
    for precision in ("exact", "fast"):
        unadapted, added = answers(net, x, None, Added(kind=kind, rank=3), precision=precision)
        assert torch.equal(unadapted, added)


@EACH_KIND
@pytest.mark.parametrize("dims", [2, 3])
def test_their_number_and_shapes(dims, kind):
    shadow = Shadow(network(dims=dims), "softmax", Added(kind=kind, rank=3))
    kernel, ones = [3] * dims, [1] * dims
    of_lora = [(3, 1, *kernel), (4, 3, *ones), (3, 4, *kernel), (4, 3, *ones), (3, 4, *ones), (3, 3, *ones)]
    of_adapter = [(3, 4, *ones), (4, 3, *ones)] * 2 + [(3, 3, *ones)] * 2
    assert [tuple(p.shape) for p in shadow.moving] == (of_lora if kind == "lora" else of_adapter)
    assert shadow.names == [f"{layer}.{part}" for layer in (0, 3, 6) for part in ("added_down", "added_up")]
    assert set(shadow.names) < set(dict(shadow.module.named_parameters()))
    only = Shadow(network(dims=dims), "softmax", Added(kind=kind, where="^3$|^nothing"))
    assert only.names == ["3.added_down", "3.added_up"]


@EACH_KIND
@pytest.mark.parametrize("row", LEARNERS)
def test_they_alone_move_by_any_method(row, kind):
    net, x = network(), image()
    before, rng = state(net), torch.get_rng_state()
    ran = inferer(changed(ROWS[row], select=Added(kind=kind)), reset="never")
    ran(x, net)
    case = ran.cases[-1]
    assert case.reason is None and case.weight_distance > 0 and case.selected == repr(Added(kind=kind))
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state())
    shadow = streams[ran].shadows[net][1]
    start = Shadow(net, "softmax", Added(kind=kind))
    moved = [not torch.equal(a, b) for a, b in zip(shadow.moving, start.moving, strict=True)]
    assert all(moved[1:4:2]) and (moved[5] or row in NEEDS_RUNNING_STATS), (
        "second convolutions move first; VPTTA looks at norms alone"
    )
    for name, tensor in net.named_parameters():
        assert shadow.module.get_parameter(name).data_ptr() == tensor.data_ptr()
    assert all(torch.equal(shadow.module.get_buffer(name), buffer) for name, buffer in net.named_buffers())


@EACH_KIND
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_in_each_kind_of_network_and_forgotten_by_the_next_image(norm, dims, kind):
    net = network(norm, dims)
    ran = inferer(Consistency(select=Added(kind=kind), optimizer=FAST, objective=CON))
    first = ran(image(dims), net)
    ran(image(dims, seed=2), net)
    assert torch.equal(ran(image(dims), net), first) and all(case.weight_distance > 0 for case in ran.cases)


@EACH_KIND
def test_recomputing_and_halves(kind):
    method = GraTa(select=Added(kind=kind), optimizer=FAST, pseudo=CON)
    usual, recomputed = (run(network(), method, recompute=r)[0] for r in (False, True))
    torch.testing.assert_close(recomputed, usual)
    fast, case = run(network(), method, precision="fast")
    assert case.reason is None and fast.dtype == usual.dtype and (fast - usual).abs().mean() < 0.1 * usual.abs().mean()
    for dtype in (torch.bfloat16, torch.float64):
        net = network().to(dtype)
        answer, case = run(net, method, image().to(dtype))
        assert case.reason is None and case.weight_distance > 0 and answer.dtype == dtype
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        assert {p.dtype for p in Shadow(net, "softmax", Added(kind=kind)).moving} == {wide}


@EACH_KIND
@pytest.mark.parametrize(
    "made",
    [
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2),
        lambda: nn.Conv2d(4, 6, (3, 5), padding="same"),
        lambda: nn.Conv3d(4, 6, 3, padding=1, padding_mode="reflect"),
        lambda: nn.Conv3d(4, 6, (1, 3, 3), bias=False),
    ],
)
def test_convolutions_of_any_form(made, kind):
    layer = made()
    x = torch.randn(2, 4, *[9] * len(layer.kernel_size))
    net = nn.Sequential(layer, nn.Conv2d(6, 2, 1) if x.ndim == 4 else nn.Conv3d(6, 2, 1)).eval()
    shadow = Shadow(net, "softmax", Added(kind=kind, where="^0$"))
    shadow.moving[1].data.normal_()
    (unadapted,) = answers(net, x, None)
    assert shadow(x).shape == unadapted.shape and not torch.allclose(shadow(x), unadapted)
    if kind == "lora":  # the increment is one of the weight
        wide = copy.deepcopy(net)
        down, up = (tensor.detach().flatten(1) for tensor in shadow.moving)
        wide[0].weight.data += (up @ down).view_as(layer.weight)
        torch.testing.assert_close(shadow(x), wide(x), rtol=1e-4, atol=1e-4)


def test_what_is_left_alone():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 2, 1))
    assert Shadow(net, "softmax", Added()).names == ["3.added_down", "3.added_up"]
    assert Shadow(net, "softmax", Added(kind="adapter")).names[:2] == ["0.added_down", "0.added_up"]
    with_heads = attach_heads(of_monai("UNet", 2), "model.1", features=8, in_channels=1, spatial_dims=2)
    assert Shadow(with_heads, "softmax", Added()).names == Shadow(of_monai("UNet", 2), "softmax", Added()).names
    with pytest.raises(CannotAdapt, match="has nothing to adapt: Added"):
        Shadow(net, "softmax", Added(where="^0$"))


def test_a_convolution_that_is_called_by_keyword_or_whose_weight_alone_is_used():
    _, case = run(around(lambda self, x: self.net[3:](self.net[:3][0](input=x))), Tent(select=Added(), optimizer=FAST))
    assert case.reason is None and case.weight_distance > 0
    net = around(lambda self, x: nn.functional.conv3d(x, self.net[0].weight[:3], padding=1))
    with pytest.warns(UserWarning, match="no gradient reaches"):
        _, case = run(net, Tent(select=Added(), optimizer=FAST))
    assert "no gradient reaches what may move" in case.reason


def test_it_is_a_value_whose_seed_draws_the_start():
    for select in (Added(), Added(kind="adapter", rank=4, where=r"^model\.1", seed=3, file="a.npz")):
        assert pickle.loads(pickle.dumps(select)) == select == eval(repr(select), vars(monai_tta))
    starts = [Shadow(network(), "softmax", Added(seed=s)).moving[0] for s in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize("choices", [{"kind": "prefix"}, {"rank": 0}, {"rank": 1.5}, {"where": "("}])
def test_choices_out_of_range_are_refused(choices):
    with pytest.raises(ValueError, match="found"):
        Added(**choices)


@EACH_KIND
def test_a_file_is_where_they_start(kind, tmp_path):
    net, x = network(), image(size=8)
    select = saved(net, tmp_path, kind)
    unadapted, from_file, again = answers(net, x, None, select, select)
    assert torch.equal(from_file, again) and not torch.allclose(from_file, unadapted)
    shadow = Shadow(net, "softmax", select)
    assert shadow.weight_distance == 0 and shadow.selected == repr(replace(select, file="added.npz"))


def test_records_and_files_of_methods_that_read_one(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Around(Wrapper):
        pass

    net = network()
    select = saved(net, tmp_path)
    method = Consistency(select=select, optimizer=FAST, objective=CON)
    careful = Careful(predictor=saved_stump("with-added"), candidates=(*ROWS["Careful"].candidates[:1], method))
    for some in (method, Around(inner=method), careful):
        assert tmp_path / "added.npz" in some.files
        ran = inferer(some)
        ran(image(), net)
        assert str(tmp_path) not in ran.cases[-1].to_json() and "added.npz" in ran.cases[-1].to_json()
        assert ran.cases[-1].reason is None
    assert Tent().files == AdamW().files == () and Tent().record_name == repr(Tent())


def test_a_file_fits_one_network_with_its_weights_and_its_choices(tmp_path):
    net = network()
    select = saved(net, tmp_path)
    other = network()
    with torch.no_grad():
        other[1].running_var.mul_(2)
    for another in (other, network("group"), network(dims=2)):
        with pytest.raises(CannotAdapt, match=r"^added.npz was made for another network, or for other weights"):
            Shadow(another, "softmax", select)
    for choices in ({"rank": 3}, {"kind": "adapter"}, {"where": "0"}):
        with pytest.raises(CannotAdapt, match=r"was made with Added\(kind='lora', rank=2, where=''\)"):
            Shadow(net, "softmax", replace(select, **choices))
    with pytest.warns(UserWarning, match="another network"):
        answer = AdaptiveInferer(8, method=Tent(select=select), head="softmax")(image(size=8), other)
    assert torch.equal(answer, other(image(size=8)).detach())


def test_a_missing_damaged_or_hostile_file_is_refused_in_words(tmp_path):
    net = network()
    select = saved(net, tmp_path)
    file = tmp_path / "added.npz"
    good = AddedFile.load(file)
    assert file.stat().st_size < 10_000 and str(tmp_path).encode() not in file.read_bytes()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CannotAdapt, match=r"^added.npz cannot be read as added parameters") as told:
        Shadow(net, "softmax", select)
    assert str(tmp_path) not in str(told.value)
    np.savez(file, description=np.array([{"a": 1}], object))
    with pytest.raises(AddedFileError, match="allow_pickle"):
        AddedFile.load(file)
    nan = {name: array * np.float32("nan") for name, array in good.arrays.items()}
    for arrays, about in ((nan, {}), ({n: a.astype(float) for n, a in good.arrays.items()}, {})):
        AddedFile(good.choices, good.network, arrays, about).save(file)
        with pytest.raises(AddedFileError, match="not finite float32"):
            AddedFile.load(file)
    AddedFile(good.choices, good.network, dict(list(good.arrays.items())[:-1])).save(file)
    with pytest.raises(CannotAdapt, match="another network"):
        Shadow(net, "softmax", select)
    file.unlink()
    with pytest.raises(CannotAdapt, match=r"^added.npz does not exist: `monai-tta pretrain-added BUNDLE` makes one"):
        Shadow(net, "softmax", select)
    assert not list(tmp_path.iterdir())
