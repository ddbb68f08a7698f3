"""Pictures of example cases: which are drawn, that they are right after resuming and with several processes, and their slices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.compare import compare, work
from monai_tta.evaluation.example_pictures import case_slice, draw, picture_jobs
from monai_tta.evaluation.jobs import jobs_of
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import Score

CONTENDERS = ("View average", "GraTa, continual")


def compared(plan, folder, workers=1):
    """The failures of a comparison."""
    return [line for *_, lines in compare(plan, folder, workers) for line in lines]


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "pictures").glob("*")}


@pytest.mark.slow
def test_pictures_are_the_same_after_resuming_and_with_several_processes(phantom_set, tmp_path):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=CONTENDERS, domains=("target",), metrics=("dice",))
    assert not compared(plan, tmp_path / "1") and not (tmp_path / "1" / "pictures").exists()
    for workers in (1, 2):
        assert not compared(replace(plan, pictures=True), tmp_path / str(workers), workers)
    first = pictures(tmp_path / "1")
    names = {f"model.pt_target_4_{name}_seed-0_case-{k}.png" for name in ("View-average", "GraTa-continual") for k in (0, 1)}
    assert first.keys() == names and first == pictures(tmp_path / "2")
    (tmp_path / "1" / "pictures" / min(names)).unlink()
    (tmp_path / "1" / "pictures" / "model.pt_target_4_Gone_seed-0_case-9.png").write_bytes(b"of a case that is no example")
    (tmp_path / "1" / "pictures" / "mine.png").write_bytes(b"of the user")
    assert not compared(replace(plan, pictures=True), tmp_path / "1")
    assert pictures(tmp_path / "1") == first | {"mine.png": b"of the user"}
    text = next(path for path in render_comparison(tmp_path / "1") if path.suffix == ".html").read_text(encoding="utf-8")
    assert text.count("<figure><figcaption>") == 4 and "holds pixels" in text
    pixels = np.asarray(Image.open(tmp_path / "1" / "pictures" / max(names)))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_an_answer_that_differs_from_its_row_gets_no_picture(phantom_set, tmp_path):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=("View average",), domains=("target",), metrics=("dice",))
    rows = [row for job in jobs_of(plan, set(), {"target": 2}) for row in work(job)[0]]
    wrong = [replace(rows[0], scores=(Score(0.9), Score(0.9))), *rows[1:]]  # of Source, case 0
    jobs = picture_jobs(plan, wrong, {"target": 2}, tmp_path)
    assert {job.answers.numbers for job in jobs} == {(0,), (1,)}
    results = {job.answers.numbers[0]: draw(job) for job in jobs}
    (line,) = results[0][1]
    assert not results[0][0] and "number 0" in line and "answered again" in line
    assert len(results[1][0]) == 1 and not results[1][1]


def volume(spacing=(1.0, 1.0, 1.0), flips=(1, 1, 1)):
    """A case with a label at one voxel of (4, 6, 8), brighter than the rest; the image has its index along each axis."""
    affine = torch.diag(torch.tensor([*(f * s for f, s in zip(flips, spacing, strict=True)), 1.0], dtype=torch.float64))
    label = torch.zeros(1, 4, 6, 8)
    label[0, 1, 2, 3] = 1
    image = torch.arange(4 * 6 * 8.0).reshape(1, 4, 6, 8)
    of = {"image": image, "label": label, "pred": label.roll(1, 2)}
    return {name: MetaTensor(value, affine=affine) for name, value in of.items()}


@pytest.mark.parametrize(
    ("spacing", "shape", "place", "pixel"),
    [
        ((1.0, 1.0, 1.0), (6, 4), (3, 2), (1.0, 1.0)),  # axial: rows are anterior to posterior
        ((1.0, 2.0, 5.0), (6, 4), (3, 2), (2.0, 1.0)),
        ((1.0, 5.0, 2.0), (8, 4), (4, 2), (2.0, 1.0)),  # coronal: rows are superior to inferior
        ((5.0, 1.0, 2.0), (8, 6), (4, 3), (2.0, 1.0)),  # sagittal
    ],
)
def test_a_volume_is_cut_across_its_thickest_voxels(spacing, shape, place, pixel):
    data = volume(spacing)
    found = case_slice(data, 0.5)
    assert found.image.shape == shape and found.pixel == pixel and found.dice == 0.5
    assert [tuple(index) for index in np.argwhere(found.label[0])] == [place]
    assert found.image[place] == float(data["image"][0, 1, 2, 3])


def test_a_volume_is_turned_as_radiologists_look_at_it():
    stored = case_slice(volume(flips=(-1, -1, 1)), 0.5)  # as DICOM stores it: the first axis goes to the patient's left
    assert tuple(np.argwhere(stored.label[0])[0]) == (2, 1) and tuple(np.argwhere(stored.answer[0])[0]) == (3, 1)


def test_a_photograph_is_shown_whole_and_in_colour():
    image = torch.rand(3, 7, 5)
    label = (image[:1] > 0.5).float()
    found = case_slice({"image": image, "label": label, "pred": 1 - label}, 0.0)
    assert found.image.shape == (5, 7, 3) and np.array_equal(found.image[2, 4], image[:, 4, 2].numpy())
    assert np.array_equal(found.label, ~found.answer) and found.pixel == (1.0, 1.0)


def test_the_background_of_labels_that_exclude_each_other_is_left_out():
    classes = torch.randint(0, 3, (1, 7, 5))
    channels = torch.cat([classes == k for k in range(3)]).float()
    found = case_slice({"image": torch.rand(1, 7, 5), "label": channels, "pred": channels}, 1.0)
    assert found.label.shape == (2, 5, 7) and np.array_equal(found.label[0], (classes[0] == 1).numpy().T)


def test_an_image_on_another_grid_is_brought_to_the_labels():
    data = volume((2.0, 2.0, 2.0))
    fine = MetaTensor(torch.ones(1, 8, 12, 16), affine=torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0])))
    assert case_slice(data | {"image": fine}, 0.5).image.shape == (6, 4)
    with pytest.raises(ValueError, match="no picture"):
        case_slice(data | {"image": fine.as_tensor()}, 0.5)
