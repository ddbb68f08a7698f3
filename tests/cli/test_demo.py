"""The demo shows what its page says: the clean image is left alone, the poor one is rescued, islands are counted."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli import demo
from monai_tta.cli.app import app

ROOT = Path(__file__).parent.parent.parent
SIDES = ("right", "left")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo, run once: its folder, its answers by image, method and side, and what it reported on the way."""
    out = tmp_path_factory.mktemp("demo")
    told = []
    answers = demo.make_demo(out, told.append)
    return out, {(a.image, a.method, a.side): a for a in answers}, told


def mask_file(out, image, method, side):
    return out / method.lower() / f"{image.replace(' ', '_')}_{side}_seg.nii.gz"


@pytest.mark.parametrize("side", SIDES)
def test_careful_leaves_the_clean_image_alone(shown, side):
    out, answers, _ = shown
    careful = answers["template", "Careful", side]
    assert careful.kind == "left alone" and "expects no gain" in careful.record.reason and careful.agreement == 1
    files = [mask_file(out, "template", method, side) for method in ("unadapted", "Careful")]
    np.testing.assert_array_equal(*(demo.read_voxels(file) for file in files))


@pytest.mark.parametrize("side", SIDES)
def test_the_poor_scanner_loses_the_hippocampus_and_careful_gives_it_back(shown, side):
    _, answers, _ = shown
    lost, careful = (answers["poor scanner", method, side] for method in ("unadapted", "Careful"))
    assert lost.agreement < 0.46 and careful.kind == "adapted"
    assert careful.agreement > 0.68 and careful.agreement - lost.agreement > 0.34
    assert 2000 < careful.voxels < 6000  # a hippocampus is 2 to 6 cubic centimetres


def test_masks_lie_where_the_boxes_lie(shown):
    out, answers, _ = shown
    for image, method, side in answers:
        box = nib.load(out / "scans" / f"{image.replace(' ', '_')}_{side}.nii.gz")
        mask = nib.load(mask_file(out, image, method, side))
        assert mask.shape == box.shape == demo.BOX
        np.testing.assert_allclose(mask.affine, box.affine)


def test_the_records_say_what_the_scanner_did_and_what_was_found(shown):
    out, answers, told = shown
    document = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert document["scanner"] == "BiasFieldShift(severity=2, seed=4), then RicianNoiseShift(severity=2, seed=4)"
    assert [(a["image"], a["method"], a["side"]) for a in document["answers"]] == list(answers)
    assert sorted(f"{method}, {image}, {side}" for image, method, side in answers) == sorted(told)
    assert document["answers"][-1]["record"]["n_windows"] > 0


def test_the_picture_is_small_and_so_is_the_one_in_the_docs(shown):
    out, _, _ = shown
    for file in (out / "demo.png", ROOT / "docs" / "demo.png"):
        assert file.read_bytes().startswith(b"\x89PNG") and 20_000 < file.stat().st_size < 300_000


def test_a_panel_names_its_islands(shown):
    _, answers, _ = shown
    one = answers["poor scanner", "unadapted", "left"]
    assert (
        one.label
        == f"agreement {one.agreement:.2f}\n{one.islands} island{'' if one.islands == 1 else 's'}, {one.island_voxels} voxels"
    )


def test_islands_are_pieces_of_a_part_apart_from_its_largest():
    mask = np.zeros((9, 9, 9), np.uint8)
    assert demo.count_islands(mask) == (0, 0)
    mask[1:4, 1:4, 1:4] = 1
    mask[4, 4, 4] = 1  # touches at a corner
    assert demo.count_islands(mask) == (0, 0)
    mask[7, 7, 7], mask[7, 1, 1:3] = 1, 1
    assert demo.count_islands(mask) == (2, 3)
    mask[4:7, 1:4, 1:4] = 2  # another part: touching part 1 does not make it one piece with it
    mask[1, 7, 1] = 2
    assert demo.count_islands(mask) == (3, 4)


def test_dice_of_masks():
    a, b = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert demo.dice(a, b) == 0.5 and demo.dice(a, a) == 1 and demo.dice(a, ~a) == 0 and demo.dice(a & ~a, a & ~a) == 1


def test_a_seed_draws_one_scanner(tmp_path):
    def boxes(folder, seed):
        files = demo.write_boxes(folder, "poor scanner", demo.poor_scanner(seed))
        return {side: demo.read_voxels(files["poor scanner", side]) for side in SIDES}

    first, again, other = boxes(tmp_path / "a", 4), boxes(tmp_path / "b", 4), boxes(tmp_path / "c", 5)
    for side in SIDES:
        np.testing.assert_array_equal(first[side], again[side])
        assert not np.array_equal(first[side], other[side])


@pytest.mark.parametrize("lacking", ["nilearn", "matplotlib"])
def test_a_missing_extra_is_told_before_any_work(lacking, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == lacking else object())
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "pip install 'monai-tta[demo]'" in result.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_command_prints_both_sides_in_a_row(words, shown, monkeypatch, tmp_path):
    _, answers, _ = shown
    seeds = []

    def made(out, advance, seed):
        seeds.append(seed)
        return list(answers.values())

    monkeypatch.setattr(demo, "make_demo", made)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--seed", "7", *words], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and seeds == [7]
    if words:
        document = json.loads(result.stdout)
        assert document["scanner"].endswith("seed=7)") and len(document["answers"]) == 12
    else:
        right, left = (answers["poor scanner", "Careful", side] for side in SIDES)
        assert f"{right.agreement:.3f} / {left.agreement:.3f}" in result.stdout and "left alone" in result.stdout
        assert "no ground truth" in result.stdout and "…" not in result.stdout
