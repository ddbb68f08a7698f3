"""Draws the example cases of a comparison: answers them once more, and keeps one slice of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, ResampleToMatch
from numpy.typing import NDArray
from torch import Tensor

from monai_tta.core.geometry import slice_as_looked_at, voxel_spacing
from monai_tta.evaluation.answer_cases import Answer, labelled_domain, use_answers
from monai_tta.evaluation.jobs import ComparisonJob
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.scoring import is_one_hot, scores_of
from monai_tta.reporting.case_pictures import draw_case
from monai_tta.reporting.example_cases import ExampleCase, chosen_contenders, example_cases
from monai_tta.reporting.rows import Row
from monai_tta.reporting.significance import mean_of_numbers
from monai_tta.reporting.summary import SOURCE, tables_of

SAME_DICE = 1e-3  # by so much may the Dice of a second answer differ, for example on another machine


@dataclass(frozen=True)
class PictureJob:
    """What one process draws in one go: the answers that it needs, and the example cases among them."""

    answers: ComparisonJob
    examples: tuple[ExampleCase, ...]

    def __str__(self) -> str:
        return f"pictures of {self.answers}"


@dataclass(frozen=True)
class CaseSlice:
    """A slice of an answered case, as it is looked at: the first axis goes down, the second to the right.

    ``image`` is ``(rows, columns)`` or ``(rows, columns, 3)``; ``label`` and ``answer`` are ``(labels, rows, columns)``, boolean.
    ``pixel`` is the height and width of a pixel in one unit, and ``dice`` the mean Dice of the whole answer, in [0, 1].
    """

    image: NDArray[np.float32]
    label: NDArray[np.bool_]
    answer: NDArray[np.bool_]
    pixel: tuple[float, float]
    dice: float


def picture_jobs(plan: ComparisonPlan, rows: Sequence[Row], sizes: dict[str, int], folder: Path) -> list[PictureJob]:
    """What is to be drawn: the example cases of a plan that have no picture in a folder yet.

    Args:
        plan: its ``only`` names the contenders; without it, each table shows the few with the largest mean change.
        rows: of the finished comparison.
        sizes: how many cases each domain has, by its label; a domain that is not in it is left out.
        folder: where the pictures are.
    """
    jobs: dict[tuple[Any, ...], PictureJob] = {}
    for example, template in _missing(plan, rows, sizes, folder):
        key = example.key
        contenders = {c.label: c for c in template.contenders}
        stream = contenders[key.contender].choices.get("reset") == "never"
        where = (*example.place, key.seed, key.contender if stream else key.number)
        before = jobs.get(where)
        examples = (*(before.examples if before else ()), example)
        needed = {SOURCE, *(other.key.contender for other in examples)}
        last = max(other.key.number for other in examples)
        of_domain = plan.numbers(template.domain, sizes[template.domain.label])
        answers = replace(
            template,
            contenders=tuple(c for label, c in contenders.items() if label in needed),
            numbers=tuple(n for n in of_domain if n <= last)
            if stream
            else (key.number,),  # what a stream answers depends on what came before
        )
        jobs[where] = PictureJob(answers, examples)
    return list(jobs.values())


def _missing(
    plan: ComparisonPlan, rows: Sequence[Row], sizes: dict[str, int], folder: Path
) -> Iterator[tuple[ExampleCase, ComparisonJob]]:
    """Example cases without a picture, each with a job of all contenders at its place."""
    domains = {domain.label: domain for domain in plan.places() if domain.label in sizes}
    contenders = tuple(plan.contenders())
    labels = [c.label for c in contenders]
    for table in tables_of(rows):
        shown = chosen_contenders(table, labels if plan.only else ()).intersection(labels)
        for example in example_cases(table, rows):
            key = example.key
            planned = key.checkpoint in plan.checkpoints and key.budget in plan.budgets and key.seed in plan.seeds
            if planned and key.domain in domains and key.contender in shown and not (folder / example.picture).is_file():
                numbers = (key.number,)
                job = ComparisonJob(plan, key.checkpoint, domains[key.domain], numbers, contenders, key.budget, key.seed)
                yield example, job


def keep_only_examples(rows: Sequence[Row], folder: Path) -> None:
    """Delete the pictures of cases that are no longer the worst, median or best of any contender.

    Args:
        rows: of the comparison.
        folder: where the pictures are; files that are not called like one stay.
    """
    names = {example.picture for table in tables_of(rows) for example in example_cases(table, rows)}
    for path in folder.glob("*_seed-*_case-*.png*"):
        if path.name not in names:
            path.unlink()


def draw(job: PictureJob) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Do a job.

    Returns:
        for each picture its file's name and content, and a line for each that failed.

    Raises:
        BundleError: when the bundle or the domain cannot be read at all.
    """
    slices: dict[tuple[str, int], CaseSlice] = {}
    wanted = {(label, e.key.number) for e in job.examples for label in (SOURCE, e.key.contender)}
    tolerance = labelled_domain(job.answers).protocol.tolerance

    def keep(answer: Answer) -> None:
        place = (answer.contender.label, answer.number)
        if place in wanted:
            dice = mean_of_numbers(score.dice for score in scores_of(answer.data, ("dice",), tolerance))
            slices[place] = case_slice(answer.data, dice)

    _, failures = use_answers(job.answers, keep)
    pictures = []
    for example in job.examples:
        source = slices.get((SOURCE, example.key.number))
        adapted = slices.get((example.key.contender, example.key.number))
        if source is None or adapted is None:
            continue  # the failure is in the list
        if max(abs(source.dice - example.before), abs(adapted.dice - example.after)) > SAME_DICE:
            failures.append(f"{job}, {example.caption}: answered again, it has Dice {source.dice:.3f} to {adapted.dice:.3f}")
            continue
        png = draw_case(source.image, source.label, source.answer, adapted.answer, source.pixel)
        pictures.append((example.picture, png))
    return pictures, failures


def case_slice(data: dict[str, Any], dice: float) -> CaseSlice:
    """The slice of a case with the most of the label.

    A volume is cut across its thickest voxels, or axially where voxels are cubes. It is shown as radiologists look at it: the
    patient's right is on the left, anterior or superior is up. A photograph is shown whole.

    Args:
        data: "image", "label" and "pred", ``(channels, *spatial)`` each, once the bundle's postprocessing is through.
        dice: of the whole answer.

    Raises:
        ValueError: when the image is on another grid than the label, and one of them does not say where its voxels are.
    """
    label = data["label"]
    image = data["image"]
    if image.shape[1:] != label.shape[1:]:
        if not (isinstance(image, MetaTensor) and isinstance(label, MetaTensor)):
            raise ValueError(f"no picture: the image is {tuple(image.shape)} and the label {tuple(label.shape)}")
        image = ResampleToMatch()(image, label)
    first = 1 if is_one_hot(torch.as_tensor(data["pred"])) else 0  # the background
    parts = [_plain(torch.as_tensor(part)).float() for part in (image, data["pred"][first:], label[first:])]
    placed = label if isinstance(label, MetaTensor) else image
    spacing = voxel_spacing(placed, label.ndim - 1) or (1.0,) * (label.ndim - 1)
    if label.ndim == 4:
        parts, spacing = _cut(parts, getattr(placed, "affine", None), spacing)
    else:
        parts = [part.transpose(1, 2) for part in parts]
    pixels, answer, truth = (part.contiguous().numpy() for part in parts)
    colours = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    return CaseSlice(colours, truth > 0, answer > 0, (spacing[1], spacing[0]), dice)


def _cut(parts: list[Tensor], affine: Any, spacing: tuple[float, ...]) -> tuple[list[Tensor], tuple[float, ...]]:
    """One slice of each volume, as it is looked at; the last volume is the truth."""
    if affine is not None:
        turned = [Orientation(axcodes="RAS", labels=None)(MetaTensor(part, affine=affine)) for part in parts]
        spacing = voxel_spacing(turned[0], 3) or spacing
        parts = [_plain(part) for part in turned]
    across = max(range(3), key=lambda axis: (round(spacing[axis], 3), axis))
    others = [axis for axis in range(3) if axis != across]
    areas = parts[-1].sum(dim=[0, *(1 + axis for axis in others)])
    place = int(areas.argmax())
    return [slice_as_looked_at(part, across, place) for part in parts], tuple(spacing[axis] for axis in others)


def _plain(value: Tensor) -> Tensor:
    return (value.as_tensor() if isinstance(value, MetaTensor) else value).detach().cpu()
