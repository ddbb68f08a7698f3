"""Training added parameters on unlabelled images: they alone learn, and the file does what it was trained for."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer, Added, Consistency, Tent
from monai_tta.cli.app import app
from monai_tta.core.added_files import AddedFile
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.label_free_metrics import agreement
from monai_tta.core.optimizers import SGD, Adam
from monai_tta.core.shadow import Shadow
from monai_tta.preparation.distortions import Distortion
from monai_tta.preparation.pretrain_added import PretrainingSettings, pretrain_added
from tests.small import image, network, same, state

SHORT = PretrainingSettings(steps=3, measured=2)


def discs(n, first=0):
    """Bright discs in noise ``(1, 24, 24)``, and where they are."""
    grid = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij"))
    images, labels = [], []
    for number in range(first, first + n):
        generator = torch.Generator().manual_seed(number)
        centre = 8 + 8 * torch.rand(2, 1, 1, generator=generator)
        distance = (grid - centre).norm(dim=0, keepdim=True)
        labels.append((distance < 5).float())
        images.append(labels[-1] + 0.1 * torch.randn(1, 24, 24, generator=generator))
    return images, labels


@pytest.fixture(scope="module")
def trained():
    """A network that segments discs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Conv2d(8, 2, 1),
        )
    images, labels = (torch.stack(some) for some in discs(16))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels[:, 0].long()).backward()
        optimizer.step()
    for parameter in net.parameters():
        parameter.grad = None
    return net.eval()


@pytest.mark.parametrize("kind", ["lora", "adapter"])
@pytest.mark.parametrize("statistics", ["source", "window"])
def test_distorted_images_are_answered_more_like_themselves_and_unshifted_ones_nearly_as_before(
    trained, kind, statistics, tmp_path
):
    before, rng = state(trained), torch.get_rng_state()
    settings = PretrainingSettings(select=Added(kind=kind), statistics=statistics, steps=60, optimizer=Adam(lr=0.01))
    done = []
    found = pretrain_added(trained, discs(8, 100)[0], settings=settings, progress=lambda *numbers: done.append(numbers))
    assert done == [(k, 60) for k in range(1, 61)]
    assert same(before, state(trained)) and torch.equal(rng, torch.get_rng_state())
    about = found.about
    assert about["agreement, as it is, after"] > 0.97 and (about["agreement, as it is, before"] == 1) == (statistics == "source")
    assert about["agreement, distorted, after"] > about["agreement, distorted, before"] - 0.01
    found.save(tmp_path / "added.npz")
    assert (tmp_path / "added.npz").stat().st_size < 20_000

    chosen = {"statistics": statistics, "steps": 0}
    started = AdaptiveInferer(method=Tent(select=replace(settings.select, file=str(tmp_path / "added.npz")), **chosen))
    plain = AdaptiveInferer(method=Tent(select=settings.select, **chosen))
    gains = []
    for number, x in enumerate(discs(8, 200)[0]):
        unadapted = trained(x[None]).softmax(1).detach()
        unshifted = started(x[None], trained).softmax(1)
        assert not torch.equal(unshifted, unadapted) and agreement(unshifted, unadapted, "softmax") > 0.9
        shown = Distortion("range").look(x, 900 + number)[None]
        far = [agreement(method(shown, trained).softmax(1), unadapted, "softmax") for method in (started, plain)]
        gains.append(far[0] - far[1])
    if statistics == "window":  # what hurts a network with the source's statistics, so small a change does not mend
        assert sum(gains) > 0, "also on images and distortions that it was not trained on"
        assert about["share of distorted that came nearer"] > 0.6


def test_a_step_goes_down_the_cross_entropy_to_the_networks_own_answer():
    net, x = network(dims=2), image(2, 8)[0]
    settings = PretrainingSettings(optimizer=SGD(lr=0.5, momentum=0.0), steps=1, seed=1, statistics="source", measured=1)
    found = pretrain_added(net, [x], settings=settings)
    shown = Distortion("range").look(x, 1_000_003)
    assert not torch.equal(shown, x)
    target = net(x[None]).softmax(1).detach()
    shadow = Shadow(net, "softmax", Added())
    loss = sum(-(target * shadow(some[None]).log_softmax(1)).sum(1).mean() / 2 for some in (shown, x))
    for name, tensor, part in zip(shadow.names, shadow.moving, torch.autograd.grad(loss, shadow.moving), strict=True):
        torch.testing.assert_close(torch.from_numpy(found.arrays[name]), (tensor - 0.5 * part).detach())


def test_the_same_seed_trains_the_same_and_files_go_on(tmp_path):
    net, images = network(dims=2), [image(2, 16, seed=k)[0] for k in range(3)]
    some, again = (pretrain_added(net, images, roi_size=8, settings=SHORT) for _ in range(2))
    other = pretrain_added(net, images, roi_size=8, settings=replace(SHORT, seed=1))
    assert all(np.array_equal(some.arrays[name], again.arrays[name]) for name in some.arrays) and some.about == again.about
    assert not all(np.array_equal(some.arrays[name], other.arrays[name]) for name in some.arrays)
    some.save(tmp_path / "a.npz")
    going_on = replace(SHORT, steps=1, optimizer=Adam(lr=0.0), select=Added(file=str(tmp_path / "a.npz")))
    onwards = pretrain_added(net, images, roi_size=8, settings=going_on)
    assert all(np.array_equal(some.arrays[name], onwards.arrays[name]) for name in some.arrays)
    assert onwards.choices == some.choices and str(tmp_path) not in json.dumps(onwards.about)


def test_training_mode_meta_data_3d_and_sigmoid(tmp_path):
    net = network("instance", head="sigmoid").train()
    before = state(net)
    found = pretrain_added(net, [MetaTensor(image(size=8)[0])], head="sigmoid", settings=SHORT)
    assert same(before, state(net)) and found.about["numbers"] == sum(array.size for array in found.arrays.values())
    found.save(tmp_path / "a.npz")
    answer = AdaptiveInferer(8, method=Consistency(select=Added(file=str(tmp_path / "a.npz"))), head="sigmoid")
    answer(image(size=8), net)
    assert answer.cases[-1].reason is None


def test_what_cannot_be_trained_is_refused():
    net = network(dims=2)
    with pytest.raises(ValueError, match="there is no image"):
        pretrain_added(net, [], settings=SHORT)
    with pytest.raises(ValueError, match="no image has a window to learn from"):
        pretrain_added(net, [torch.ones(1, 8, 8)], settings=SHORT)
    with pytest.raises(CannotAdapt, match="nothing to adapt"):
        pretrain_added(net, [image(2, 8)[0]], settings=replace(SHORT, select=Added(where="nowhere")))
    broken = image(2, 8)[0].clone()
    broken[0, 0, 0] = float("nan")
    assert pretrain_added(net, [broken, image(2, 8)[0]], settings=SHORT).about["images"] == 2
    for choices in ({"statistics": "volume"}, {"steps": 0}, {"budget": 0}, {"measured": 0}):
        with pytest.raises(ValueError, match="found"):
            PretrainingSettings(**choices)


def test_a_bundle_is_trained_and_then_run_with_its_file(phantom_set, bundle_copy, tmp_path):
    (phantom_set / "images" / "broken.nii.gz").write_bytes(b"no image")
    file = tmp_path / "new" / "added.npz"
    words = ["pretrain-added", bundle_copy, "--dataset-dir", phantom_set / "images", "--out", file, "--steps", 2, "--rank", 1]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--budget", 1, "--measured", 2, "--json"]])
    assert done.exit_code == 3 and "not read: broken.nii.gz" in done.stderr, done.output
    said = json.loads(done.stdout)
    assert said["written"] == str(file) and said["found"] == AddedFile.load(file).about and said["choices"]["rank"] == 1
    assert said["found"]["images"] == 6 and str(phantom_set) not in json.dumps(said["found"])

    scan = phantom_set / "images" / "c0.nii.gz"
    choices = ["select=Added", f"select.file={file}", "select.rank=1"]
    words = ["run", bundle_copy, scan, "--out", tmp_path / "out", "--method", "tent"]
    words += [word for choice in choices for word in ("--choose", choice)]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "out" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert record["reason"] is None and record["n_moving"] == said["found"]["numbers"]
    assert "file='added.npz'" in record["method"] and str(tmp_path) not in json.dumps(record)
    assert nib.load(tmp_path / "out" / "c0_seg.nii.gz").shape == (36, 34, 33)
    file.unlink()
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--restart"]])
    assert done.exit_code == 2 and f"{file} does not exist" in " ".join(done.output.split()), "before any image is read"
