"""From files to findings to masks: small bundles with random weights, whose inputs still have sizes and brightness."""

import json
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from monai_tta import Source
from monai_tta.cli.app import app
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.check_input import CheckedInput, check_files
from monai_tta.pipeline.input_correction import CORRECTION, TurnBack
from monai_tta.pipeline.input_view import InputView, loading_steps
from monai_tta.pipeline.segment import segment
from monai_tta.preparation.measure_inputs import input_reference, measure_inputs
from monai_tta.quality.corrections import CropBorder, Intensity, Reorder, ScaledSpacing
from tests.attack.arena import PHOTOGRAPHS, save, small_bundle, volume

AFFINE = np.array([[0.0, 0, 1.5, -20], [-1, 0, 0, 7], [0, 1, 0, 3], [0, 0, 0, 1]])  # not RAS, and not isotropic


@pytest.fixture
def bundle(tmp_path):
    return small_bundle(tmp_path / "bundle")


def scan(seed=0):
    """A bright block in noise, a little larger with each seed, that no mirror maps to itself."""
    rng = np.random.default_rng(seed)
    data = volume(rng, (14, 13, 12)) * 2
    data[1:4, 2:9, 3:6] += 5
    return data


def home_images(folder, n=6):
    folder.mkdir()
    return [save(folder / f"h{k}.nii.gz", scan(k), AFFINE) for k in range(n)]


def segmented(bundle, image, out, correction):
    """The mask that `segment` writes, and the record."""
    checked = {image: CheckedInput(image, correction=correction)} if correction else {}
    (outcome,) = segment(load_bundle(bundle), [image], out, Source(), checked=checked)
    assert outcome.error is None, outcome.error
    return nib.load(outcome.masks[0]), outcome.case


def reference_of(bundle, images):
    reference, words = input_reference(list(measure_inputs(load_bundle(bundle), images)))
    assert f"{len(images)} images" in words
    return reference


@pytest.mark.parametrize(
    "correction",
    [Reorder("", (0, 1, 2), (1,)), Reorder("", (0, 1, 2), (0, 2)), Reorder("", (2, 0, 1), ()), Reorder("", (1, 0, 2), (2,))],
    ids=lambda c: c.name,
)
def test_the_mask_of_a_corrected_image_lies_on_the_image_as_given(bundle, tmp_path, correction):
    right = torch.as_tensor(scan())[None]
    faulty = correction.undo(right, right)
    save(tmp_path / "right.nii.gz", right[0].numpy(), AFFINE)
    save(tmp_path / "bad.nii.gz", faulty[0].numpy(), AFFINE)
    wanted, _ = segmented(bundle, tmp_path / "right.nii.gz", tmp_path / "a", None)
    mask, _ = segmented(bundle, tmp_path / "bad.nii.gz", tmp_path / "b", correction)
    assert mask.shape == faulty.shape[1:] and np.allclose(mask.affine, AFFINE)
    expected = correction.undo(torch.as_tensor(np.asarray(wanted.dataobj))[None], faulty)[0].numpy()
    assert np.asarray(wanted.dataobj).any() and np.array_equal(np.asarray(mask.dataobj), expected)


def test_a_corrected_spacing_is_not_written_into_the_mask(bundle, tmp_path):
    right = np.diag([2.0, 2, 2, 1])
    save(tmp_path / "right.nii.gz", scan(), right)
    save(tmp_path / "bad.nii.gz", scan(), np.eye(4))
    wanted, _ = segmented(bundle, tmp_path / "right.nii.gz", tmp_path / "a", None)
    mask, _ = segmented(bundle, tmp_path / "bad.nii.gz", tmp_path / "b", ScaledSpacing("", "", (2.0, 2.0, 2.0)))
    assert np.allclose(mask.affine, np.eye(4)) and np.array_equal(np.asarray(mask.dataobj), np.asarray(wanted.dataobj))


def test_a_cropped_border_comes_back_empty(bundle, tmp_path):
    save(tmp_path / "right.nii.gz", scan(), AFFINE)
    save(tmp_path / "bad.nii.gz", np.pad(scan(), 3), AFFINE)
    wanted, _ = segmented(bundle, tmp_path / "right.nii.gz", tmp_path / "a", None)
    mask, _ = segmented(bundle, tmp_path / "bad.nii.gz", tmp_path / "b", CropBorder("", (3, 3, 3), (17, 16, 15)))
    assert np.array_equal(np.asarray(mask.dataobj)[3:-3, 3:-3, 3:-3], np.asarray(wanted.dataobj))
    assert np.allclose(mask.affine, AFFINE) and mask.shape == (20, 19, 18)


def test_a_photograph_is_turned_back_too(tmp_path):
    bundle = small_bundle(tmp_path / "bundle", "vessel_fundus", PHOTOGRAPHS)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 52, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "right.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "bad.png")
    masks = []
    for name, correction in (("right", None), ("bad", Reorder("", (1, 0), ()))):
        image = tmp_path / f"{name}.png"
        checked = {image: CheckedInput(image, correction=correction)}
        (outcome,) = segment(load_bundle(bundle), [image], tmp_path / f"out {name}", Source(), checked=checked)
        masks.append(np.asarray(Image.open(outcome.masks[0])))
    assert 0 < (masks[0] > 0).mean() < 1 and np.array_equal(masks[1], masks[0].T)


def test_a_mask_that_cannot_be_turned_back_is_refused():
    image = torch.rand(1, 4, 5, 6)
    mirror = Reorder("mirrored", (0, 1, 2), (0,))
    case = {CORRECTION: mirror, "as_given": image}
    assert torch.equal(TurnBack()(case | {"pred": image})["pred"], image.flip([1]))
    with pytest.raises(ValueError, match="cannot be turned back: correct the file"):
        TurnBack()(case | {"pred": torch.rand(1, 4, 5, 7)})
    with pytest.raises(BundleError, match="begins with"):
        loading_steps(TurnBack())


def test_an_image_that_cannot_be_answered_as_it_is_may_still_be_corrected(bundle, tmp_path, monkeypatch):
    images = home_images(tmp_path / "home")
    reference = reference_of(bundle, images)
    prepared = InputView.prepared

    def fails_on_small_voxels(view, loaded):
        if loaded.affine[:3, :3].norm() < 1:
            raise ZeroDivisionError("no voxel is left")
        return prepared(view, loaded)

    monkeypatch.setattr(InputView, "prepared", fails_on_small_voxels)
    bad = save(tmp_path / "bad.nii.gz", scan(), np.diag([0.1, 0.1, 0.1, 1]) @ AFFINE)
    (found,) = check_files(load_bundle(bundle), reference, [bad], fix=True)
    assert found.error is None and found.correction.name == "spacing x 10"
    monkeypatch.setattr(InputView, "prepared", lambda view, loaded: 1 / 0)
    (found,) = check_files(load_bundle(bundle), reference, [images[0]])
    assert found.finding is None and "division" in found.error
    (measured,) = measure_inputs(load_bundle(bundle), [images[0]])
    assert measured[0] is None and "division" in measured[1]


def test_findings_name_what_was_done_to_a_file(bundle, tmp_path):
    images = home_images(tmp_path / "home")
    reference = reference_of(bundle, images)
    other = scan(9)
    bad = tmp_path / "bad"
    bad.mkdir()
    files = {
        "as it is": save(bad / "fine.nii.gz", other, AFFINE),
        "inverted": save(bad / "inverted.nii.gz", other.min() + other.max() - other, AFFINE),
        "border": save(bad / "padded.nii.gz", np.pad(other, 5), AFFINE),
        "spacing x 10": save(bad / "cm.nii.gz", other, AFFINE * np.array([[0.1, 0.1, 0.1, 1]])),
        "spacing / 10": save(bad / "far.nii.gz", other, AFFINE * np.array([[10, 10, 10, 1]])),
        "mask": save(bad / "mask.nii.gz", (other > 2).astype(np.float32), AFFINE),
        "cropped": save(bad / "part.nii.gz", other[:5, 4:9, :5], AFFINE),
        "harmless": save(bad / "offset.nii.gz", other * 3 + 1024, AFFINE),
    }
    found = {
        name: checked
        for name, checked in zip(files, check_files(load_bundle(bundle), reference, [*files.values()], True), strict=True)
    }
    assert {name: checked.error for name, checked in found.items() if checked.error} == {}
    named = {name: checked.finding.names for name, checked in found.items()}
    assert named.pop("as it is") == () and named.pop("harmless") == (), "z-scores do not depend on scale and offset"
    assert {name: names[:1] for name, names in named.items()} == {name: (name,) for name in named}
    assert isinstance(found["inverted"].correction, Intensity)
    assert found["inverted"].record.startswith("corrected: grey inverted") and found["mask"].record.startswith("not corrected")
    assert found["as it is"].record is None and found["as it is"].correction is None


def test_one_bad_file_does_not_end_the_checks(bundle, tmp_path):
    images = home_images(tmp_path / "home")
    reference = reference_of(bundle, images)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    broken, fine = check_files(load_bundle(bundle), reference, [tmp_path / "broken.nii.gz", images[0]])
    assert broken.finding is None and "NIfTI" in broken.error and fine.finding is not None
    assert "broken.nii.gz" not in broken.record


def test_checking_changes_neither_the_image_nor_the_network(bundle, tmp_path):
    from tests.small import same, state

    images = home_images(tmp_path / "home")
    source = load_bundle(bundle)
    before = state(source.network)
    reference = reference_of(bundle, images)
    with InputView(source) as view:
        loaded = view.loaded(images[0])
        was = torch.as_tensor(loaded).clone()
        from monai_tta.pipeline.check_input import check_image

        far = type(reference)(reference.cases, reference.figures, reference.scale, limit=-1.0)  # so that corrections are tried
        check_image(view, far, loaded)
        assert torch.equal(torch.as_tensor(loaded), was)
    assert same(before, state(source.network))


def test_the_commands_check_fix_and_record(bundle, tmp_path):
    images = home_images(tmp_path / "home")
    runner = CliRunner()
    file = bundle / "models" / "reference.json"
    made = runner.invoke(app, ["reference", str(bundle), str(tmp_path / "home"), "--out", str(file)])
    assert made.exit_code == 0 and "figures for input checks of 6 images" in made.output
    bad = tmp_path / "in"
    bad.mkdir()
    right = scan(9)
    save(bad / "inverted.nii.gz", right.min() + right.max() - right, AFFINE)
    checked = runner.invoke(app, ["check", str(bundle), str(bad), "--json"])
    assert checked.exit_code == 4
    (found,) = json.loads(checked.stdout[checked.stdout.index("[") :])
    assert found["noticed"] and found["corrections"][0]["correction"] == "inverted" and found["image"] == "inverted.nii.gz"
    usual = runner.invoke(app, ["check", str(bundle), str(images[0])])
    assert usual.exit_code == 0 and "looks like the source's images" in usual.stderr.replace("\n", " ")
    (tmp_path / "damaged.nii.gz").write_bytes(b"none")
    damaged = runner.invoke(app, ["check", str(bundle), str(tmp_path / "damaged.nii.gz")])
    assert damaged.exit_code == 3 and "unusual" not in damaged.output
    assert "damaged.nii.gz cannot be read" in damaged.stderr and "damaged.nii.gz: cannot be read: " in damaged.stdout
    save(tmp_path / "right.nii.gz", right, AFFINE)
    masks = {}
    for name, image, more in [
        ("plain", bad, []),
        ("fixed", bad, ["--fix"]),
        ("right", tmp_path / "right.nii.gz", ["--no-check"]),
    ]:
        words = ["run", str(bundle), str(image), "--out", str(tmp_path / name), "--method", "source", *more]
        done = runner.invoke(app, words)
        assert done.exit_code == 0, done.output
        masks[name] = np.asarray(nib.load(next((tmp_path / name).glob("*.nii.gz"))).dataobj)
        record = (tmp_path / name / "records.json").read_text(encoding="utf-8")
        assert ("not corrected: " in record) == (name == "plain") and ('"corrected: grey inverted' in record) == (name == "fixed")
        table = (tmp_path / name / "records.csv").read_text(encoding="utf-8")
        assert ("corrected: grey inverted" in table) == (name == "fixed") and ("not corrected: " in table) == (name == "plain")
        assert json.loads(record)["cases"][0]["input_checked"] == (name != "right")
    assert np.array_equal(masks["fixed"], masks["right"]) and not np.array_equal(masks["plain"], masks["right"])


def test_fix_without_a_reference_is_refused(bundle, tmp_path):
    save(tmp_path / "a.nii.gz", scan(), AFFINE)
    words = ["run", str(bundle), str(tmp_path / "a.nii.gz"), "--out", str(tmp_path / "out"), "--method", "source"]
    for more in (["--fix"], ["--fix", "--no-check"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 2 and not (tmp_path / "out").exists()
    assert CliRunner().invoke(app, ["check", str(bundle), str(tmp_path / "a.nii.gz")]).exit_code == 2
    assert CliRunner().invoke(app, words).exit_code == 0


def test_what_a_reader_warns_of_has_the_images_name_and_is_said_once(bundle, tmp_path):
    file = tmp_path / "reference.json"
    assert (
        CliRunner()
        .invoke(app, ["reference", str(bundle), *map(str, home_images(tmp_path / "home")), "--out", str(file)])
        .exit_code
        == 0
    )
    eye = tmp_path / "eye.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 22, 3), np.uint8)).save(eye)
    with warnings.catch_warnings(record=True) as bare:
        warnings.simplefilter("always")
        words = [str(bundle), str(eye), "--reference", str(file)]
        done = CliRunner().invoke(app, ["check", *words])
        lines = [line for line in done.output.splitlines() if "axcodes" in line]
        assert lines and all(line.startswith("eye.png: UserWarning: ") for line in lines)
        done = CliRunner().invoke(app, ["run", *words, "--out", str(tmp_path / "masks"), "--method", "source"])
        before, _, after = done.output.partition("segmenting 1 image")
        assert "axcodes" not in before and "axcodes" in after
    assert not [one for one in bare if "axcodes" in str(one.message)]
