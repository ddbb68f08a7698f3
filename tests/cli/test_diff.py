"""`monai-tta diff` on folders with made-up records and masks: no network answers anything."""

import json

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline.records import SCHEMA_FILE

LABELS = [{"name": "liver", "value": 1, "voxels": 64, "ml": 0.064}]


def diff(*words):
    return CliRunner().invoke(app, ["diff", *map(str, words)], env={"COLUMNS": "300"})


def cube(size=4):
    voxels = np.zeros((8, 8, 8), np.uint8)
    voxels[:size, :4, :4] = 1
    return voxels


def write_run(out, masks, *, seed=0, torch="2.9.0", anonymous=False, **changed):
    """A folder of a run: masks by case, None for a failed one; ``changed`` are entries of every case."""
    out.mkdir()
    cases = []
    for number, (name, voxels) in enumerate(masks.items()):
        failed = voxels is None
        case = {"number": number, "name": name, "masks": [] if failed else [f"{name}_seg.nii.gz"], "uncertainty_map": None}
        case |= {"status": "failed" if failed else "adapted", "in_words": "-", "reason": None, "notes": [], "labels_note": None}
        case |= {"error": "damaged" if failed else None, "labels": [] if failed else LABELS, "seconds": 1.5, "image_hash": "0a"}
        if not failed:
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), out / f"{name}_seg.nii.gz")
            case |= {"network": "UNet", "method": "Tent()", "head": "softmax", "learn": "volume", "reset": "volume"}
            case |= {"seed": seed, "shape": [1, 1, 8, 8, 8], "precision": "exact", "budget": 4, "n_windows": 4, "n_moving": 9}
            case |= {"selected": None, "steps": [], "weight_distance": 0.1, "changed_fraction": None, "restarted": None}
            case |= {"seconds_unadapted": None, "peak_memory": None, **changed}
        cases.append(case)
    run = {"command": "monai-tta run b IMAGES --out OUT", "command_note": "-", "settings": {"seed": seed}, "images": len(cases)}
    run |= {"versions": {"torch": torch}, "adapted": 0, "unadapted": 0, "failed": 0, "finished": True, "anonymous": anonymous}
    document = {"schema": "monai_tta.records", "schema_version": 1, "run": run, "cases": cases}
    Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))).validate(document)
    (out / "records.json").write_text(json.dumps(document), encoding="utf-8")
    return out


def test_runs_with_the_same_masks(tmp_path):
    masks = {"a": cube(), "b": cube(2), "c": None}
    one, two = write_run(tmp_path / "one", masks), write_run(tmp_path / "two", masks, torch="2.13.0", seconds=2.5)
    result = diff(one, two)
    assert result.exit_code == 0, result.output
    assert "3 of 3 cases have the same masks" in result.stdout and "failed in both runs" in result.stdout
    assert "versions: torch" in result.stdout and "2.9.0" in result.stdout and "1.5 / 2.5" in result.stdout


def test_the_most_different_case_stands_first(tmp_path):
    one = write_run(tmp_path / "one", {"same": cube(), "far": cube(4), "near": cube(4), "first": cube(), "lost": cube()})
    two = write_run(tmp_path / "two", {"same": cube(), "far": cube(1), "near": cube(3), "second": cube(), "lost": None}, seed=1)
    result = diff(one, two)
    assert result.exit_code == 1, result.output
    assert "settings: seed" in result.stdout and "1 of 6 cases have the same masks" in result.stdout
    found = json.loads(diff(one, two, "--json").stdout)
    assert [case["name"] for case in found["cases"]] == ["first", "lost", "second", "far", "near", "same"]
    assert found["runs"] == {"settings: seed": [0, 1]} and found["same"] is False
    by_name = {case["name"]: case for case in found["cases"]}
    assert (
        by_name["first"]["not_compared"] == "only in the first run"
        and by_name["lost"]["not_compared"] == "failed in the second run"
    )
    (liver,) = by_name["far"]["masks"]["labels"]
    assert liver["name"] == "liver" and liver["dice"] == pytest.approx(2 * 16 / (16 + 64))
    assert liver["amounts"] == pytest.approx([0.064, 0.016]) and liver["unit"] == "ml"
    assert by_name["far"]["masks"]["n_different"] == 48 and by_name["far"]["differs"] == {"seed": [0, 1]}
    row = next(line for line in result.stdout.splitlines() if " far " in line)
    assert "liver 0.4000" in row and "48 of 512" in row and "liver 0.064 / 0.016 ml" in row


def test_what_was_answered_otherwise(tmp_path):
    quality = [
        {
            "name": "liver",
            "structure": 1,
            "dice": 0.82,
            "low": 0.7,
            "high": 0.9,
            "spread": 0.1,
            "nsd": 0.9,
            "nsd_low": 0.8,
            "nsd_high": 1.0,
            "ranking": 0.9,
        }
    ]
    one = write_run(tmp_path / "one", {"a": cube()}, quality=quality)
    two = write_run(tmp_path / "two", {"a": cube()}, status="unadapted", reason="volume-change", image_hash="0b")
    result = diff(one, two)
    assert result.exit_code == 0, "the masks are the same"
    assert "adapted / unadapted: volume-change" in result.stdout and "liver .82 / -" in result.stdout
    assert "another image of the same name: a" in result.stdout


def test_one_voxel_of_very_many_does_not_look_like_none(tmp_path):
    voxels = np.ones((60, 60, 60), np.uint8)
    other = voxels.copy()
    other[0, 0, 0] = 0
    one, two = write_run(tmp_path / "one", {"a": voxels}), write_run(tmp_path / "two", {"a": other})
    result = diff(one, two)
    assert result.exit_code == 1 and "liver 0.9999" in result.stdout and "1 of 216000" in result.stdout


def test_masks_that_cannot_be_compared(tmp_path):
    one = write_run(tmp_path / "one", {"a": cube(), "b": cube(), "c": cube()})
    two = write_run(tmp_path / "two", {"a": cube()[:6], "b": cube(), "c": cube()})
    result = diff(one, two)
    assert result.exit_code == 1 and "the masks have 8x8x8x1 and 6x8x8x1" in result.stdout
    (two / "b_seg.nii.gz").write_bytes(b"damaged")
    (two / "c_seg.nii.gz").unlink()
    result = diff(one, two)
    assert result.exit_code == 3, result.output
    assert "cannot be read" in result.stdout and "is not there any more" in result.stdout


def test_anonymous_records_and_folders_of_no_run_are_refused(tmp_path):
    one, two = write_run(tmp_path / "one", {"a": cube()}), write_run(tmp_path / "two", {"a": cube()}, anonymous=True)
    result = diff(one, two)
    assert result.exit_code == 2 and "anonymous records name no cases" in result.stderr.replace("\n", " ")
    result = diff(one, tmp_path)
    assert result.exit_code == 2 and "has no records.json" in result.stderr


def test_the_help_names_the_exit_codes():
    result = diff("--help")
    assert "0: all masks are the same; 1: some masks differ" in result.stdout
