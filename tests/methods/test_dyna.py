"""Day and night: what the diary keeps, what a night learns, and what it leaves alone."""

import stat

import pytest
import torch
from torch import nn

from monai_tta import VPTTA, AttachedAffine, DyNA, Night, NormAffine, Tent, Views
from monai_tta.core.diary import Diary, DiaryError
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.optimizers import Adam
from monai_tta.methods import dyna
from tests.reference.dyna import night
from tests.small import FAST, image, inferer, network, same, state
from tests.test_reference import network as reference_network
from tests.test_reference import restyled


def kept_day(folder, images=6, dims=2, **choices):
    """An inferer that has adapted to some images, its network, and the diary."""
    method = DyNA(inner=VPTTA(optimizer=FAST), diary=str(folder), **choices)
    run = inferer(method, reset="never")
    net = network(dims=dims)
    for seed in range(images):
        run(image(dims, seed=seed), net)
    return method, net, Diary(folder)


def test_without_a_diary_nothing_is_kept_and_there_is_no_night(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = inferer(DyNA(inner=VPTTA(optimizer=FAST)), reset="never")
    net = network()
    alone = inferer(VPTTA(optimizer=FAST), reset="never")
    assert torch.equal(run(image(), net), alone(image(), net)) and not list(tmp_path.iterdir())
    with pytest.raises(CannotAdapt, match="no diary"):
        DyNA().consolidate(net, "softmax")


def test_the_diary_keeps_the_latest_images_for_its_owner_alone_and_burns(tmp_path):
    folder = tmp_path / "diary"
    method, _, diary = kept_day(folder, images=7, diary_size=5)
    assert [file.name for file in diary.entries()] == [f"image-{k:06d}.pt" for k in range(3, 8)]
    assert len(list(folder.iterdir())) == 5 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in diary.entries())
    assert diary.read(diary.entries()[0]).shape == (1, 1, 8, 8)
    assert str(folder) not in method.record_name and "DIARY" in method.record_name
    (folder / "notes.txt").write_text("not ours", encoding="utf-8")
    diary.burn()
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    diary.burn()
    assert not folder.exists()


def test_one_of_five_images_is_held_back(tmp_path, monkeypatch):
    method, net, diary = kept_day(tmp_path, images=10)
    assert [k for k, file in enumerate(diary.entries()) if file in diary.held_back()] == [4, 9]
    learnt = []
    monkeypatch.setattr(dyna.Night, "learn", lambda self, source, day, head: learnt.extend(day) or {})
    method.consolidate(net, "softmax")
    kept = [diary.read(file) for file in diary.entries()]
    assert len(learnt) == 8 and all(torch.equal(a, b) for a, b in zip(learnt, kept[:4] + kept[5:9], strict=True))
    kept_day(tmp_path / "few", images=4)
    with pytest.raises(CannotAdapt, match="holds 4 images; a night needs 5"):
        DyNA(diary=str(tmp_path / "few")).consolidate(net, "softmax")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", None])
def test_what_is_no_entry_is_refused(tmp_path, content):
    file = tmp_path / "image-000001.pt"
    if content is None:
        torch.save({"format": 1, "windows": torch.full((1, 1, 4, 4), torch.nan)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(DiaryError, match="image-000001.pt"):
        Diary(tmp_path).read(file)
    with pytest.raises(DiaryError, match="at least one"):
        DyNA(diary_size=0)


def test_a_night_equals_its_reconstruction_in_plain_code():
    net = reference_network()
    day = [torch.randn(2, 2, 12, 12, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3)]
    plain = Views(axes=(), turns=False)
    settings = Night(optimizer=Adam(lr=0.01), epochs=1, global_decay=0.8, teacher_decay=0.9, views=plain, restyling=restyled)
    before, generator = state(net), torch.get_rng_state()
    learnt = settings.learn(net, day, "sigmoid")
    assert same(before, state(net)) and torch.equal(generator, torch.get_rng_state())
    order = torch.randperm(3, generator=torch.Generator().manual_seed(0)).tolist()
    expected = night(net, day, restyled, order, 0.01, 0.8, 0.9, 0.1).state_dict()
    assert set(learnt) == {name for name in expected if "num_batches" not in name}
    for name, tensor in learnt.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_a_night_gives_the_same_weights_again_and_changes_what_may_move(dims, head, kind):
    net = network(kind, dims, head)
    day = [image(dims, size=8, seed=seed, n=2) for seed in range(2)]
    learn = Night(select=NormAffine(), optimizer=FAST, restyling=restyled).learn
    learnt = learn(net, day, head)
    again = learn(net, day, head)
    moved = {name for name, value in learnt.items() if not torch.equal(value, net.state_dict()[name])}
    running = {f"{k}.running_{what}" for k in (1, 4) for what in ("mean", "var")} if kind == "batch" else set()
    assert moved == set(learnt) == set(NormAffine()(net)) | running
    assert all(torch.equal(learnt[name], again[name]) for name in learnt)
    net.load_state_dict(net.state_dict() | learnt)


def test_a_night_that_cannot_be_is_refused():
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.Conv3d(4, 3, 1)).eval()
    with pytest.raises(CannotAdapt, match="no image"):
        Night().learn(net, [], "softmax")
    with pytest.raises(CannotAdapt, match="adds parameters"):
        Night(select=AttachedAffine()).learn(net, [image(size=8)], "softmax")
    with pytest.raises(ValueError, match="epochs=0"):
        Night(epochs=0)
    with pytest.raises(ValueError, match="'global_decay': 1.5"):
        Night(global_decay=1.5)


def test_any_method_can_have_the_day(tmp_path):
    run = inferer(DyNA(inner=Tent(optimizer=FAST), diary=str(tmp_path)), reset="never")
    run(image(), network("group"))
    assert run.cases[-1].weight_distance > 0 and len(Diary(tmp_path).entries()) == 1
