"""Fine-tuning on scribbles: what is learnt from, what moves, and that the network and its checkpoint stay."""

import copy
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from typer.testing import CliRunner

from monai_tta import SGD, AttachedAffine, Biases, Everything, MaskedContextTask, Prompt
from monai_tta.cli.app import app
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import weighted_cross_entropy
from monai_tta.preparation.finetune_bundle import ScribbleValues, on_grid_of, read_scribble_list
from monai_tta.preparation.finetune_scribbles import FinetuneSettings, check_finetuning, finetune_on_scribbles
from monai_tta.preparation.scribbled_cases import checked_cases
from monai_tta.transforms.scribbles import ScribbleToSoftLabel
from tests.small import image, network, same, state

QUICK = FinetuneSettings(steps=6, windows=2, consistency=MaskedContextTask(patch=4))


def case(dims=3, seed=1, size=12, n_classes=3, channels=None):
    """Noise with a line of scribbles for each class."""
    scribble = torch.zeros(1, *[size] * dims)
    for k in range(n_classes):
        scribble[0, 1 + 4 * k] = k + 1
    label, weight = ScribbleToSoftLabel(range(1, n_classes + 1), 1.0, channels=channels, spacing=[1.0] * dims)(scribble)
    return {"image": image(dims, size, seed)[0], "soft_label": label, "weight": weight}


CASES = [case(seed=k) for k in range(3)]


@pytest.mark.parametrize("kind", ["batch", "group", "instance", "layer"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_copy_learns_and_the_network_stays(kind, head, dims):
    net = network(kind, dims, head)
    cases = [case(dims, channels=None if head == "softmax" else ((2, 3), (3,)))]
    before, rng = state(net), torch.get_rng_state()
    with torch.inference_mode():
        made = finetune_on_scribbles(net, cases, head=head, roi_size=8, settings=QUICK)
    assert same(before, state(net)) and torch.equal(rng, torch.get_rng_state())
    assert list(made.state) == list(net.state_dict()) and made.weight_distance > 0 and len(made.losses) == 6
    moved = {name for name, old in net.state_dict().items() if not torch.equal(old, made.state[name])}
    assert moved == {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert made.n_moving == sum(made.state[name].numel() for name in moved)
    fresh = copy.deepcopy(net)
    fresh.load_state_dict(made.state)
    again = finetune_on_scribbles(net, cases, head=head, roi_size=8, settings=QUICK)
    assert again.losses == made.losses and all(torch.equal(again.state[name], made.state[name]) for name in made.state)


def test_it_learns_what_was_scribbled():
    """The labels are a plane's sides, which the image shows: after some steps the whole image is right."""
    x = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.3
    x[:, 8:] += 2
    scribble = torch.zeros(1, 16, 16, 16)
    scribble[0, 2, 8], scribble[0, 13, 8] = 1, 2
    label, weight = ScribbleToSoftLabel((1, 2, 3), 2.0, spacing=(1, 1, 1))(scribble)
    cases = [{"image": x, "soft_label": label, "weight": weight}]
    net = network()
    settings = FinetuneSettings(steps=60, optimizer=SGD(lr=0.1, momentum=0.9), select=Everything(), windows=2)
    made = finetune_on_scribbles(net, cases, roi_size=8, settings=settings)
    tuned = copy.deepcopy(net)
    tuned.load_state_dict(made.state)
    truth = (torch.arange(16) >= 8).long().view(-1, 1, 1).expand(16, 16, 16)
    right_before, right = ((n(x[None]).argmax(1)[0] == truth).float().mean() for n in (net, tuned))
    assert right > 0.9 > right_before + 0.2 and made.losses[-1] < 0.5 * made.losses[0]


def test_consistency_is_a_part_of_the_loss_that_can_be_left_out():
    net = network()
    for weight in (0.0, 0.5):
        settings = FinetuneSettings(steps=1, windows=2, consistency=MaskedContextTask(patch=4), consistency_weight=weight)
        made = finetune_on_scribbles(net, CASES, roi_size=8, settings=settings)
        if not weight:
            alone = made.losses[0]
    assert made.losses[0] > alone + 0.1


def test_windows_hold_every_class_equally_often_and_weights_of_mean_one():
    (made,) = checked_cases([case(size=20)])
    generator = torch.Generator().manual_seed(0)
    places = made.places("softmax")
    assert len(places) == 3
    windows = made.draw_windows(places, 4, 300, generator)
    assert windows.shape == (300, 5, 4, 4, 4) and float(windows[:, -1].mean()) == pytest.approx(1, rel=1e-4)
    near = windows[:, -1].flatten(1).amax(1) / windows[:, -1].max()
    assert (near >= 0.499).all(), "each window holds a voxel near a scribble"
    whole = made.draw_windows(places, -1, 4, generator)
    assert whole.shape == (1, 5, 20, 20, 20) and torch.equal(whole[0, :1], made.parts()[0][0])
    padded = made.draw_windows(places, (24, 8, 8), 2, generator)
    assert padded.shape == (2, 5, 24, 8, 8) and not padded[:, :, :2].any() and not padded[:, :, -2:].any()


def test_voxels_of_little_weight_are_not_learnt_from():
    (made,) = checked_cases([CASES[0]], 0.7)
    _, _, weight = made.parts()
    assert torch.equal(weight[0], torch.where(CASES[0]["weight"] < 0.7, 0, CASES[0]["weight"])) and (weight == 0).any()
    net = network()
    far = CASES[0] | {"soft_label": torch.where(CASES[0]["weight"] < 0.5, 1 / 3, CASES[0]["soft_label"])}
    losses = [finetune_on_scribbles(net, [c], roi_size=8, settings=QUICK).losses for c in (CASES[0], far)]
    assert losses[0] == losses[1]
    all_of_them = replace(QUICK, least_weight=0.0)
    assert finetune_on_scribbles(net, [far], roi_size=8, settings=all_of_them).losses != losses[0]


def test_leaving_one_out_learns_from_the_others_alone():
    net = network()
    far_steps = replace(QUICK, optimizer=SGD(lr=0.3, momentum=0.0))
    found = list(check_finetuning(net, CASES, roi_size=8, settings=far_steps))
    assert len(found) == 3 and all(0 <= each.agreement_after <= 1 and each.loss_before > 0 for each in found)
    other = [*CASES[:2], case(seed=9)]
    changed = list(check_finetuning(net, other, roi_size=8, settings=far_steps))
    assert changed[2].loss_before != found[2].loss_before and changed[0].loss_before == found[0].loss_before
    assert changed[0].loss_after != found[0].loss_after, "case 2 is learnt from where another one is left out"
    tuned = copy.deepcopy(net)
    tuned.load_state_dict(finetune_on_scribbles(net, CASES[:2], roi_size=8, settings=far_steps).state)
    with torch.no_grad():
        said = SlidingWindowInferer(8, overlap=0.5)(CASES[2]["image"][None], tuned)
    weight = torch.where(CASES[2]["weight"] < 0.5, 0, CASES[2]["weight"])[None]
    loss = weighted_cross_entropy(said, CASES[2]["soft_label"][None], weight / weight.mean(), "softmax")
    assert found[2].loss_after == pytest.approx(float(loss), rel=1e-4)
    right = (said.argmax(1) == CASES[2]["soft_label"].argmax(0))[weight[:, 0] > 0].float().mean()
    assert found[2].agreement_after == pytest.approx(float(right))


@pytest.mark.parametrize("select", [AttachedAffine(), Prompt()])
def test_what_no_checkpoint_can_hold_is_refused(select):
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1), torch.nn.BatchNorm3d(4, affine=False), torch.nn.Conv3d(4, 3, 1)).eval()
    with pytest.raises(ValueError, match="which no checkpoint of Sequential can hold"):
        finetune_on_scribbles(net, CASES, settings=FinetuneSettings(select=select))
    with pytest.raises(CannotAdapt, match="nothing to adapt"):
        finetune_on_scribbles(net, CASES)
    made = finetune_on_scribbles(net, CASES, settings=FinetuneSettings(select=Biases(), steps=2))
    assert made.n_moving == 7


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c | {"weight": c["weight"] * 0.3}, "case 0 has no scribble on its image"),
        (lambda c: c | {"image": c["image"][..., 1:]}, "all need a channel axis first"),
        (lambda c: c | {"image": c["image"] / 0}, "case 0 holds NaN or infinity"),
        (lambda c: c | {"soft_label": c["soft_label"][:2]}, "must have one shape"),
    ],
)
def test_cases_that_cannot_be_learnt_from_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        finetune_on_scribbles(network(), [change(CASES[0])], roi_size=8, settings=QUICK)


def test_few_cases_and_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="no scribbled case"):
        finetune_on_scribbles(network(), [])
    with pytest.raises(ValueError, match="two cases or more"):
        list(check_finetuning(network(), CASES[:1]))
    with pytest.raises(ValueError, match="different numbers of channels"):
        finetune_on_scribbles(network(), [CASES[0], case(n_classes=2)])
    with pytest.raises(ValueError, match="has 2 axes"):
        finetune_on_scribbles(network(), CASES, roi_size=(8, 8), settings=QUICK)
    for wrong in ({"steps": 0}, {"windows": 0}, {"consistency_weight": -1}, {"least_weight": 1.5}):
        with pytest.raises(ValueError, match="found"):
            FinetuneSettings(**wrong)


def test_which_value_a_scribble_has_for_which_class():
    def values(n_channels, head, **choices):
        made = ScribbleValues(**choices).transform(n_channels, head).transform
        return made.values, made.channels

    assert values(3, "softmax") == ((3, 1, 2), None)
    assert values(2, "sigmoid") == ((3, 1, 2), [[1], [2]])
    assert values(2, "sigmoid", channels=((1, 2), (2,))) == ((3, 1, 2), [[1, 2], [2]])
    assert values(3, "softmax", values=(0, 1, 2), unmarked=4) == ((0, 1, 2), None)
    for n_channels, head, choices in (
        (4, "softmax", {"values": (0, 1, 2), "unmarked": 4}),
        (3, "softmax", {"channels": ((1,), (2,), (3,))}),
        (3, "sigmoid", {"channels": ((1, 2), (2,))}),
    ):
        with pytest.raises(ValueError, match="the network segments"):
            values(n_channels, head, **choices)


def test_soft_labels_come_to_the_grid_of_the_image():
    fine = torch.zeros(1, 24, 24, 24)
    fine[:, 12:] = 1
    part = MetaTensor(fine, affine=torch.diag(torch.tensor([0.5, 0.5, 0.5, 1])))
    prepared = MetaTensor(torch.zeros(1, 12, 12, 12), affine=torch.eye(4))
    coarse = on_grid_of(prepared, part)
    assert coarse.shape == (1, 12, 12, 12) and not isinstance(coarse, MetaTensor)
    assert not coarse[:, :5].any() and (coarse[:, 7:] > 0.99).all()
    assert torch.equal(on_grid_of(MetaTensor(fine, affine=part.affine), part), fine)
    with pytest.raises(ValueError, match="different sizes"):
        on_grid_of(torch.zeros(1, 12, 12, 12), fine)


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "is not JSON"),
        ("[]", "must hold a list"),
        ('{"validation": []}', "must hold a list"),
        ('[{"image": "a.nii.gz"}]', 'case 0 must name an "image" and a "scribble"'),
        ('[{"image": "a.nii.gz", "scribble": "b.nii.gz"}]', "the image of case 0 does not exist: a.nii.gz"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(text, said, tmp_path):
    (tmp_path / "cases.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_scribble_list(tmp_path / "cases.json")


@pytest.fixture
def scribbled(phantom_set):
    """A list of two phantoms with scribbles, painted at twice the resolution."""
    listed = []
    for k in (4, 5):
        label = np.asarray(nib.load(phantom_set / "labels" / f"c{k}.nii.gz").dataobj)
        scribble = np.zeros([2 * n for n in label.shape], np.uint8)
        scribble[30, 24:44, 34] = 1
        scribble[46, 24:44, 34] = 2
        scribble[6:66:60, :, 34] = 3
        nib.save(nib.Nifti1Image(scribble, np.diag([0.5, 0.5, 0.5, 1])), phantom_set / f"s{k}.nii.gz")
        listed.append({"image": f"images/c{k}.nii.gz", "scribble": f"s{k}.nii.gz"})
    (phantom_set / "cases.json").write_text(json.dumps({"training": listed}), encoding="utf-8")
    return phantom_set / "cases.json"


def finetune(*words):
    return CliRunner().invoke(app, [str(word) for word in ("finetune", *words)], env={"COLUMNS": "200"})


def test_a_bundle_is_fine_tuned_and_run_with_its_new_checkpoint(scribbled, bundle_copy, tmp_path):
    old = (bundle_copy / "models" / "model.pt").read_bytes()
    out = bundle_copy / "models" / "new.pt"
    words = [bundle_copy, "--datalist", scribbled, "--out", out, "--choose", "steps=3", "--choose", "windows=1"]
    done = finetune(*words, "--check", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["written"] == str(out) and said["found"]["moved"] > 0 and len(said["held out"]) == 2
    assert (bundle_copy / "models" / "model.pt").read_bytes() == old
    assert sorted(path.name for path in out.parent.iterdir() if "partial" in path.name) == []
    weights = torch.load(out, weights_only=True)
    assert set(weights) == set(torch.load(bundle_copy / "models" / "model.pt", weights_only=True))

    image_file = scribbled.parent / "images" / "c4.nii.gz"
    command = ["run", bundle_copy, image_file, "--method", "source", "--checkpoint", "new.pt", "--out", tmp_path / "masks"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0 and (tmp_path / "masks" / "c4_seg.nii.gz").is_file(), done.output

    done = finetune(*words)
    assert done.exit_code == 2 and "no checkpoint is ever replaced" in done.output
    kept = torch.load(out, weights_only=True)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in kept.items())


@pytest.mark.parametrize(
    "words, said",
    [
        (["--values", "0,one"], "--values takes whole numbers"),
        (["--values", "0,1,2", "--unmarked", "0"], "unmarked is another"),
        (["--values", "3,1"], "the network segments 3 classes"),
        (["--values", "7,1,2"], "scribble of case 0: the scribble holds 3"),
        (["--channels", "1+2,2"], "the network segments 3 classes"),
        (["--choose", "steps=0"], "steps and windows are 1 or more"),
        (["--choose", "stride=1"], "has no choice 'stride'"),
        (["--datalist", "nowhere.json"], "nowhere.json is no file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(words, said, scribbled, tmp_path):
    done = finetune("hippocampus_mri", "--datalist", scribbled, "--out", tmp_path / "new.pt", *words)
    assert done.exit_code == 2 and said in " ".join(done.output.split()) and "Traceback" not in done.output, done.output
    assert not (tmp_path / "new.pt").exists()
