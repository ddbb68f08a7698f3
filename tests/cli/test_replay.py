"""`monai-tta replay`: a case is answered anew as its record says, and everything that is not as it was is named."""

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.recorded_command import LeftOut, recorded_request
from tests.attack.arena import save, small_bundle, volume


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def drawn(name, value, draws):
    """A tensor of a state dict, drawn anew; variances stay as they are."""
    is_weight = value.is_floating_point() and not name.endswith("running_var")
    return 0.3 * torch.randn(value.shape, generator=draws) if is_weight else value


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small bundle, three scans of which one is damaged, and the masks of a run that drew random numbers."""
    root = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    weights = small_bundle(root / "bundle") / "models" / "model.pt"
    draws = torch.Generator().manual_seed(0)  # the network's weights before depend on what ran before
    state = {name: drawn(name, value, draws) for name, value in torch.load(weights, weights_only=True).items()}
    torch.save(state, weights)
    (root / "scans" / "p1").mkdir(parents=True)
    save(root / "scans" / "a.nii.gz", volume(rng), np.diag([2.0, 2, 2, 1]))
    save(root / "scans" / "p1" / "b.nii.gz", volume(rng))
    (root / "scans" / "c.nii.gz").write_bytes(b"damaged")
    assert run(root, "masks").exit_code == 3
    return root


@pytest.fixture
def place(made, tmp_path):
    """A copy of that to change."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def run(root, out, *more):
    # restyling draws random numbers, so another seed gives another mask
    words = ["--method", "grata", "--choose", "optimizer.lr=30", *more]
    return invoke("run", root / "bundle", root / "scans", "--out", root / out, *words)


def replay(root, case="a", *more, images=None, out="masks"):
    return invoke("replay", root / out, case, root / "bundle", images or root / "scans", *more)


def change_records(root, change, out="masks"):
    file = root / out / "records.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")


def flip_a_voxel(mask):
    """Change the value of one voxel of a mask file."""
    image = nib.load(mask)
    voxels = np.asarray(image.dataobj).copy()
    voxels[3, 4, 5] = 0 if voxels[3, 4, 5] else 1
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), mask)


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


class TestSame:
    @pytest.mark.parametrize("case, images", [("a", "scans"), ("p1_b", "scans"), ("p1_b", "scans/p1/b.nii.gz")])
    def test_a_case_is_the_same_and_nothing_is_changed(self, made, case, images):
        before = contents(made)
        result = replay(made, case, images=made / images)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"the same: all 1320 voxels of {case}_seg.nii.gz\n"
        assert contents(made) == before

    def test_another_machine_is_said_and_no_difference(self, place):
        def change(document):
            document["run"]["versions"]["torch"] = "1.0"
            document["cases"][0]["computed_on"] = "cpu of somebody else's"

        change_records(place, change)
        result = replay(place)
        assert result.exit_code == 0 and result.stdout.startswith("the same: all 1320 voxels")
        assert "versions: torch" in result.stdout and "1.0" in result.stdout and "computed_on" in result.stdout

    def test_torch_uses_the_threads_on_record(self, place, monkeypatch):
        used = []
        monkeypatch.setattr(torch, "set_num_threads", used.append)
        change_records(place, lambda document: document["cases"][0].update(threads=3))
        replay(place)
        assert used == [3]

    def test_a_copy_of_the_bundle_and_of_the_image_under_other_names(self, place):
        (place / "bundle").rename(place / "other")
        shutil.copy(place / "scans" / "a.nii.gz", place / "renamed.nii.gz")
        result = invoke("replay", place / "masks", "a", place / "other", place / "renamed.nii.gz")
        assert result.exit_code == 0 and "settings: bundle" in result.stdout, result.output


class TestDifferent:
    def test_one_flipped_voxel(self, place):
        mask = place / "masks" / "a_seg.nii.gz"
        before = sitk.ReadImage(str(mask))
        flip_a_voxel(mask)
        result = replay(place)
        assert result.exit_code == 3, result.output
        assert "differs: 1 of 1320 voxels of a_seg.nii.gz" in result.stdout
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(before, sitk.ReadImage(str(mask)))
        dice = [overlap.GetDiceCoefficient(value) for value in (1, 2)]
        said = [f"value {value} {dice:.4f}" for value, dice in zip((1, 2), dice, strict=True) if dice < 1]
        assert f"Dice: {', '.join(said)}\n" in result.stdout and said
        assert "the largest difference is 0.008 ml (value" in result.stdout, "a voxel has 2 x 2 x 2 mm3"
        assert "that on disk was probably changed after the run" in result.stdout
        assert replay(place, "p1_b").exit_code == 0

    def test_another_seed(self, place):
        def change(document):
            document["run"]["command"] += " --seed 1"

        change_records(place, change)
        found = json.loads(replay(place, "a", "--json").stdout)
        assert found["differs"] == {"settings: seed": [0, 1], "seed": [0, 1]} and not found["same"]
        assert found["case"]["masks"]["n_different"] > 0 and not found["changed_on_disk"]
        result = replay(place)
        assert result.exit_code == 3 and "settings: seed" in result.stdout and "probably changed" not in result.stdout

    def test_a_byte_of_the_checkpoint(self, place):
        weights = place / "bundle" / "models" / "model.pt"
        state = torch.load(weights, weights_only=True)
        name = next(name for name in state if state[name].is_floating_point())
        state[name].view(torch.uint8).view(-1)[0] ^= 1  # the last bit of one weight
        torch.save(state, weights)
        result = replay(place)
        assert result.exit_code == 3 and "settings: weights_hash" in result.stdout

    def test_a_word_of_the_config(self, place):
        config = place / "bundle" / "configs" / "inference.yaml"
        config.write_text(config.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")
        result = replay(place)
        assert result.exit_code == 3 and "settings: bundle_hash" in result.stdout
        assert "the mask is the same, but it was not made as the record says" in result.stdout

    def test_another_image(self, place):
        result = replay(place, images=place / "scans" / "p1" / "b.nii.gz")
        assert result.exit_code == 3 and "image_hash" in result.stdout

    def test_an_image_that_fails_now(self, place):
        (place / "scans" / "a.nii.gz").write_bytes(b"damaged")
        result = replay(place)
        assert result.exit_code == 3 and "differs: this time the case failed" in result.stdout and "error" in result.stdout

    def test_a_case_may_be_called_by_its_mask(self, place):
        result = replay(place, "a_seg.nii.gz")
        assert result.exit_code == 0 and "the same: all" in result.stdout

    def test_another_grid(self, place):
        mask = place / "masks" / "a_seg.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(nib.load(mask).dataobj), np.diag([2.0, 2, 2.5, 1])), mask)
        result = replay(place)
        assert result.exit_code == 3 and "the masks lie on different grids" in result.stdout


class TestRefused:
    @pytest.mark.parametrize(
        "change, case, said",
        [
            (lambda document: None, "b", "has no case or mask 'b' on record. It has 3 cases"),
            (lambda document: None, "p1-b", "Did you mean 'p1_b'?"),
            (lambda document: None, "c", "this case failed, so there is no mask to compare with"),
            (lambda document: document["cases"][0].update(reset="never"), "a", "continual run (--reset never)"),
            (lambda document: document["cases"][0].update(masks=["gone.nii.gz"]), "a", "no gone.nii.gz any more"),
            (lambda document: document["cases"][0].update(name="z"), "z", "of the 3 images none is called z"),
            (lambda document: document["run"].update(command="monai-tta check b IMAGES"), "a", "none that can be replayed"),
        ],
    )
    def test_in_one_line(self, place, change, case, said):
        change_records(place, change)
        result = replay(place, case)
        assert result.exit_code == 2 and said in result.output.replace("\n", " "), result.output

    @pytest.mark.parametrize(
        "more, said",
        [
            (["--reference", "r.json"], "--reference r.json, of which the record keeps the name"),
            (["--set", "network_def#weights=PATH"], "its value, a path, is not on record; give --set network_def#weights=VALUE"),
            (["--device", "cuda:99"], "has no device 'cuda:99'"),
            (["--guard", "luck"], "no guard 'luck'"),
            (["--fix", "--no-check"], "--fix needs the check"),
        ],
    )
    def test_what_the_record_lacks_and_what_a_run_refuses(self, place, more, said):
        change_records(place, lambda document: document["run"].update(command=f"{document['run']['command']} {' '.join(more)}"))
        result = replay(place)
        assert result.exit_code == 2 and said in result.output.replace("\n", " "), result.output

    def test_another_bundle_and_no_records(self, made):
        result = invoke("replay", made / "masks", "a", made / "scans", made / "scans")
        assert result.exit_code == 2 and "is not a MONAI bundle" in result.output
        result = invoke("replay", made / "scans", "a", made / "bundle", made / "scans")
        assert result.exit_code == 2 and "has no records.json" in result.output


def test_anonymous_records_have_numbers_and_no_hash_of_the_image(place):
    assert run(place, "anonymous", "--anonymous").exit_code == 3
    text = (place / "anonymous" / "records.json").read_text(encoding="utf-8")
    assert "image_hash" not in text
    before = contents(place)
    result = replay(place, "2", out="anonymous")
    assert result.exit_code == 0, result.output
    assert "the same: all 1320 voxels of p1_b_seg.nii.gz" in result.stdout
    assert "not checked: the records hold no hash of the image" in result.stdout
    alone = replay(place, "2", out="anonymous", images=place / "scans" / "p1" / "b.nii.gz")
    assert alone.exit_code == 2 and "has no b_seg.nii.gz" in alone.output
    assert contents(place) == before


def test_files_and_paths_that_the_record_leaves_out(place):
    extra = place / "extra.yaml"
    command = "monai-tta run b IMAGES --out OUT --config extra.yaml --set note=PATH --choose select.file=x.npz --anonymous"
    left_out = LeftOut(place / "bundle", [place], place / "o", [extra, place / "x.npz"], ["note=/data/y"], "cpu")
    request = recorded_request(command, left_out)
    assert request.changes == ([str(extra)], ["note=/data/y"]) and request.choices == [f"select.file={place / 'x.npz'}"]
    assert (request.device, request.anonymous, request.out, request.images) == ("cpu", False, place / "o", [place])
    with pytest.raises(ValueError, match="was not given --set other"):
        recorded_request(command, LeftOut(place / "bundle", [place], place / "o", entries=["other=1", "note=2"]))


def test_a_config_file_is_given_again_and_checked_by_its_hash(place):
    extra = place / "extra.yaml"
    extra.write_text("roi_note: 1\n", encoding="utf-8")
    assert run(place, "more", "--config", extra).exit_code == 3
    result = replay(place, out="more")
    assert result.exit_code == 2 and "--config extra.yaml" in result.output
    assert replay(place, "a", "--file", extra, out="more").exit_code == 0
    extra.write_text("roi_note: 2\n", encoding="utf-8")
    result = replay(place, "a", "--file", extra, out="more")
    assert result.exit_code == 3 and "settings: config_hash" in result.stdout


def test_records_of_a_process_with_another_locale(place):
    here = os.fsdecode("ä".encode())
    (elsewhere,) = {"ä", "\udcc3\udca4"} - {here}  # as UTF-8 has it, and as ASCII does
    (place / "scans" / "a.nii.gz").rename(place / "scans" / f"{here}.nii.gz")
    (place / "masks" / "a_seg.nii.gz").rename(place / "masks" / f"{here}_seg.nii.gz")
    change_records(place, lambda document: document["cases"][0].update(name=elsewhere, masks=[f"{elsewhere}_seg.nii.gz"]))
    result = replay(place, here)
    assert result.exit_code == 0 and "the same: all 1320 voxels" in result.stdout, result.output
