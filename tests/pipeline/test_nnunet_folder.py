"""nnU-Net model folders through nnunetv2 itself; skipped where that is not installed."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from monai_tta import GraTa, Source, Tent
from monai_tta.cli.app import app
from monai_tta.evaluation.cost_job import WAYS, CostJob
from monai_tta.guards import Guard
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.check_input import CheckedInput
from monai_tta.pipeline.nnunet_cases import case_files
from monai_tta.pipeline.segment import segment
from monai_tta.quality.corrections import CropBorder, Reorder
from tests.tiny_nnunet import LABELS, REGIONS, checkpoint, model_folder, predicted_by_nnunet, write_case, write_picture

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install 'monai-tta[nnunet]'")

KINDS = {
    "two folds": {"folds": (0, 1)},
    "2d": {"name": "2d", "mirrors": (0, 1)},
    "regions and an ignore label": {"labels": REGIONS},
    "an ignore label without regions": {"labels": {**LABELS, "ignore": 3}, "mirrors": (0, 1)},
    "low resolution": {"name": "3d_lowres", "mirrors": None},
    "two channels": {"channels": ("T1", "FLAIR"), "mirrors": (0,), "axes": (2, 1, 0)},
    "all data in one": {"folds": ("all",), "ending": ".nrrd"},
    "read by nibabel": {"reader": "NibabelIO"},
    "turned by nibabel": {"reader": "NibabelIOWithReorient"},
    "turned by ITK": {"reader": "SimpleITKIOWithReorient"},
    "colours": {
        "name": "2d",
        "channels": ("R", "G", "B"),
        "reader": "NaturalImage2DIO",
        "ending": ".png",
        "mirrors": (0, 1),
        "axes": (0, 1, 2),
    },
}


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answered(folder, files, method, **options):
    """A case's mask as bytes, and its record."""
    source = load_bundle(folder)
    with case_files(source.plan.cases, files) as images:
        (outcome,) = segment(source, images, folder / "out", method, **options)
    assert outcome.error is None, outcome.error
    return outcome.masks[0].read_bytes(), outcome.case


def case_of(how, folder):
    """The files of a case for a kind of network."""
    if how.get("ending") == ".png":
        return write_picture(folder, "case")
    return write_case(folder, "case", len(how.get("channels", (1,))), ending=how.get("ending", ".nii.gz"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_answer_is_nnunets_own_file(kind, tmp_path):
    how = KINDS[kind]
    folder = model_folder(tmp_path / "model", **how)
    files = case_of(how, tmp_path / "in")
    own, case = answered(folder, files, Source())
    assert own == predicted_by_nnunet(folder, files, tmp_path / "case", how.get("folds", (0,)))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(next((folder / "out").glob("case_seg.*")))))
    assert len(np.unique(mask)) == 3  # or the comparison would say little
    assert case.head == ("sigmoid" if how.get("labels") == REGIONS else "softmax")


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_each_fold_adapts_by_itself_and_the_answer_is_their_mean(name, tmp_path):
    how = {"name": name, "mirrors": (0, 1)}
    folder = model_folder(tmp_path / "model", folds=(0, 1), **how)
    (file,) = write_case(tmp_path / "in", "case")
    source = load_bundle(folder)
    before = [{key: tensor.clone() for key, tensor in network.state_dict().items()} for network in source.networks]
    preprocessing, _ = source.transforms(tmp_path)
    image = preprocessing({"image": str(file)})["image"][None]
    inferer = source.adapt_with(Tent(optimizer=GraTa().optimizer), head="softmax", budget=2)
    together = inferer(image, source.network)
    alone = []
    for fold in (0, 1):
        single = load_bundle(folder, f"fold_{fold}/checkpoint_final.pth")
        alone.append(single.adapt_with(inferer.adaptive.settings.method, head="softmax", budget=2)(image, single.network))
        assert not torch.equal(alone[-1], single.adapt_with(Source())(image, single.network))
    assert torch.equal(together, (alone[0] + alone[1]) / 2)
    (case,) = inferer.cases
    assert case.adapted and case.n_windows == 4 and len(case.steps) == 2 and case.weight_distance > 0
    for network, state in zip(source.networks, before, strict=True):
        assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_the_adapted_answer_is_mirrored_and_adapts_on_no_mirrored_copies(tmp_path):
    folder = model_folder(tmp_path / "model")
    (file,) = write_case(tmp_path / "in", "case")
    source = load_bundle(folder)
    image = source.transforms(tmp_path)[0]({"image": str(file)})["image"][None]
    inferer = source.adapt_with(Tent(), head="softmax", budget=None)
    mirrored = inferer(image, source.network)
    steps = source.inferer.predictor._internal_get_sliding_window_slicers([max(n, 12) for n in image.shape[2:]])
    assert inferer.cases[-1].n_windows == len(steps)
    source.inferer.predictor.use_mirroring = False
    assert not torch.equal(mirrored, inferer(image, source.network))


class RefuseSecond(Guard):
    """Refuses the second answer that it sees."""

    seen = 0

    def check(self, evidence):
        self.seen += 1
        return "not this one" if self.seen == 2 else None


def test_an_answer_that_one_fold_refuses_is_unadapted_in_all(tmp_path):
    folder = model_folder(tmp_path / "model", folds=(0, 1))
    files = write_case(tmp_path / "in", "case")
    plain, _ = answered(folder, files, Source())
    with pytest.warns(UserWarning, match="not this one"):
        kept, case = answered(folder, files, Tent(), guard=RefuseSecond())
    assert kept == plain and not case.adapted and case.reason == "fold 2 of 2: not this one"


def test_run_groups_channels_reports_each_case_and_resumes_nothing_that_failed(tmp_path):
    folder = model_folder(tmp_path / "model", channels=("T1", "FLAIR"), folds=(0, 1))
    write_case(tmp_path / "in", "b", 2)
    write_case(tmp_path / "in", "a", 2, seed=1)
    write_case(tmp_path / "in", "lone", 1)
    done = tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", "--method", "tent")
    assert done.exit_code == 3 and "2 of 3 segmented" in done.output and "it has no lone_0001.nii.gz" in done.output
    assert "nnU-Net 3d_fullres, fold 0, 1, checkpoint_final.pth, mirrored along 3 axes" in done.output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a_seg.nii.gz", "b_seg.nii.gz"]
    mask, image = (sitk.ReadImage(str(path)) for path in (tmp_path / "out" / "a_seg.nii.gz", tmp_path / "in" / "a_0000.nii.gz"))
    assert mask.GetOrigin() == image.GetOrigin() and mask.GetDirection() == image.GetDirection()


def test_without_a_method_nothing_adapts_and_calibration_is_offered(tmp_path):
    folder = model_folder(tmp_path / "model")
    write_case(tmp_path / "in", "case")
    done = tta("run", folder, tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0 and "method: source (no adaptation)" in done.output
    assert "has no gain predictor; `monai-tta calibrate` makes one" in done.output.replace("\n", " ")


def test_inputs_are_measured_checked_and_corrected(tmp_path):
    folder = model_folder(tmp_path / "model", folds=(0, 1))
    for seed in range(6):
        write_case(tmp_path / "home", f"case{seed}", seed=seed)
    reference = folder / "fold_0" / "reference_checkpoint_final.json"
    done = tta("reference", folder, tmp_path / "home", "--out", reference)
    assert done.exit_code == 0 and "6 cases" in done.output and "input checks of 6 images" in done.output, done.output
    assert {"spacing x", "entropy", "size"} <= set(json.loads(reference.read_text("utf-8"))["inputs"]["figures"])
    done = tta("check", folder, tmp_path / "home")
    assert done.exit_code == 0 and "case5: looks like" in done.output, done.output
    (given,) = write_case(tmp_path / "in", "cm")
    image = sitk.ReadImage(str(given))
    image.SetSpacing([size / 10 for size in image.GetSpacing()])
    sitk.WriteImage(image, str(given))
    done = tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", "--fix")
    assert done.exit_code == 0 and "corrected, and the mask is turned back" in done.output, done.output
    (case,) = json.loads((tmp_path / "out" / "records.json").read_text("utf-8"))["cases"]
    assert case["input_check"].startswith("corrected: spacing ten times as large")
    corrected = sitk.ReadImage(str(tmp_path / "out" / "cm_seg.nii.gz"))
    assert np.allclose(corrected.GetSpacing(), image.GetSpacing(), rtol=1e-6)
    answered(folder, write_case(tmp_path / "right", "cm"), Source())
    right = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "out" / "cm_seg.nii.gz")))
    assert (sitk.GetArrayFromImage(corrected) != right).mean() < 0.001


@pytest.mark.parametrize("kind", ["mirrored", "permuted", "two channels", "colours", "a border"])
def test_the_mask_of_a_corrected_image_lies_on_the_image_as_given(kind, tmp_path):
    how = KINDS.get(kind, {})
    folder = model_folder(tmp_path / "model", **how)
    files = case_of(how, tmp_path / "in")
    correction = {
        "mirrored": Reorder("", (0, 1, 2), (0, 2)),
        "permuted": Reorder("", (2, 0, 1), (1,)),
        "two channels": Reorder("", (1, 0, 2), ()),
        "colours": Reorder("", (1, 0), (0,)),
        "a border": CropBorder("", (1, 2, 1), (14, 15, 19)),
    }[kind]
    source = load_bundle(folder)
    load, _ = source.transforms(tmp_path)[0].transforms
    with case_files(source.plan.cases, files) as images:
        (plain,) = segment(source, images, tmp_path / "plain", Source())
        checked = {images[0]: CheckedInput(images[0], correction=correction)}
        (outcome,) = segment(source, images, tmp_path / "out", Source(), checked=checked)
    assert outcome.error is None, outcome.error
    image = load({"image": [str(file) for file in files]})["image"]
    corrected = correction.apply(image)
    data = source.transforms(tmp_path / "by hand")[0].transforms[1]({"image": corrected})
    segment_it, save = source.transforms(tmp_path / "by hand")[1].transforms
    pred = segment_it({**data, "pred": source.adapt_with(Source())(data["image"][None], source.network)[0]})["pred"]
    wanted = correction.undo(pred, image)[0].numpy()
    found, unturned = (sitk.GetArrayFromImage(sitk.ReadImage(str(one.masks[0]))) for one in (outcome, plain))
    assert np.array_equal(found, wanted) and found.shape == unturned.shape
    assert kind == "a border" or not np.array_equal(found, unturned)


def test_channels_that_a_list_or_a_pattern_puts_together_are_those_of_nnunets_names(tmp_path):
    folder = model_folder(tmp_path / "model", channels=("T1", "FLAIR"))
    files = write_case(tmp_path / "in", "b", 2)
    own, _ = answered(folder, files, Source())
    for file, name in zip(files, ("T1", "FLAIR"), strict=True):
        (tmp_path / "named").mkdir(exist_ok=True)
        (tmp_path / "named" / f"b_{name}.nii.gz").write_bytes(file.read_bytes())
    listed = tmp_path / "cases.json"
    listed.write_text(json.dumps([{"case": "b", "image": [f"named/b_{name}.nii.gz" for name in ("T1", "FLAIR")]}]), "utf-8")
    grouped = ["--group", "{case}_{sequence}.nii.gz", "--sequences", "T1,FLAIR"]
    for number, words in enumerate(([listed], [tmp_path / "named", *grouped])):
        out = tmp_path / f"out{number}"
        done = tta("run", folder, *words, "--out", out, "--anonymous")
        assert done.exit_code == 0 and (out / "b_seg.nii.gz").read_bytes() == own, done.output
        record = json.loads((out / "records.json").read_text("utf-8"))
        assert "name" not in record["cases"][0] and record["run"]["versions"]["nnunetv2"]
        assert [label["name"] for label in record["cases"][0]["labels"]] == ["front", "back"]
        assert record["run"]["settings"]["checkpoint"] == "checkpoint_final.pth"


@pytest.mark.parametrize(("name", "shape"), [("3d_fullres", (1, 1, 39, 39, 39)), ("2d", (1, 1, 12, 12))])
def test_profile_times_each_way_on_a_model_folder(name, shape, tmp_path):
    job = CostJob(model_folder(tmp_path / name, name=name, mirrors=(0,)), Tent(), None, checkpoint="checkpoint_final.pth")
    assert tuple(job.image.shape) == shape and job.head == "softmax"
    answers = [torch.as_tensor(job.segment_by(way)()) for way in WAYS]
    assert {tuple(answer.shape) for answer in answers} == {(1, 3, *shape[2:])}
    assert not torch.equal(answers[0], answers[2]) and torch.allclose(answers[1], answers[2], atol=0.05)


def test_the_second_stage_of_a_cascade_is_refused_in_words(tmp_path):
    folder = model_folder(tmp_path / "model")
    content = checkpoint({}, "3d_cascade_fullres")
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(BundleError, match="second stage of a cascade and needs the masks of 3d_lowres"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "plans.json").write_text("{}", "utf-8"), "configurations"),
        (lambda f: (f / "dataset.json").write_text('{"labels": {"front": 1}}', "utf-8"), "Background label"),
        (lambda f: torch.save(checkpoint({}), f / "fold_0" / "checkpoint_final.pth"), "does not fit PlainConvUNet"),
        (
            lambda f: torch.save(checkpoint({}, trainer_name="nobody"), f / "fold_0" / "checkpoint_final.pth"),
            "network cannot be made",
        ),
        (lambda f: torch.save(checkpoint({}, "5d"), f / "fold_0" / "checkpoint_final.pth"), "5d"),
        (lambda f: model_folder(f, name="2d", folds=(1,)), "not one model"),
    ],
)
def test_a_spoilt_model_folder_is_refused_in_words(spoil, words, tmp_path):
    folder = model_folder(tmp_path / "model")
    spoil(folder)
    with pytest.raises(BundleError, match=words):
        load_bundle(folder)


def test_the_names_of_labels_are_those_of_dataset_json(tmp_path):
    plain = load_bundle(model_folder(tmp_path / "a")).parser["_meta_"]["network_data_format"]["outputs"]["pred"]
    assert plain["channel_def"] == {"0": "background", "1": "front", "2": "back"}
    regions = load_bundle(model_folder(tmp_path / "b", labels=REGIONS)).parser["_meta_"]["network_data_format"]["outputs"]["pred"]
    assert regions["channel_def"] == {"0": "whole", "1": "core"}
    assert regions["mask_values"] == {"0": "background", "1": "whole without core", "2": "core"}
