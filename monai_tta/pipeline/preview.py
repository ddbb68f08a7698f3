"""One picture of a case beside its masks: its planes with the unadapted and the adapted outline. It shows a patient's image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_tta.core.record import Case
from monai_tta.pipeline.beside_masks import file_names
from monai_tta.pipeline.case_file import files_of
from monai_tta.pipeline.case_words import picture_words, picture_words_of_entry
from monai_tta.pipeline.image_names import name_of
from monai_tta.pipeline.mask_labels import LabelNames, UnknownLabels, amounts_in
from monai_tta.pipeline.output_folder import clear
from monai_tta.pipeline.picture_planes import Shown, load_shown, planes
from monai_tta.pipeline.private_text import without_paths
from monai_tta.pipeline.recorded_answer import RecordedAnswer, labels_of_both, structures_of
from monai_tta.reporting.preview_picture import PreviewPanel, draw_preview

NOTHING = "nothing found"
_NOT_KEPT = "the unadapted answer was not kept"


@dataclass(frozen=True)
class PreviewText:
    """What is written on previews.

    Args:
        names: what the bundle calls its labels.
        anonymous: whether the masks' names are left out.
        ends: the values of a volume that are drawn black and white; None for the percentiles of what is shown.
    """

    names: LabelNames = LabelNames({})
    anonymous: bool = False
    ends: tuple[float, float] | None = None


def write_preview(
    image: Path,
    name: str,
    case: Case,
    folder: Path,
    uncertainty_map: Path | None,
    answer_unadapted: Callable[[], None],
    text: PreviewText,
) -> Path:
    """Write a preview beside the masks that were written for one image.

    Args:
        image: see `load_shown`.
        name: of the image.
        case: its record.
        folder: where the masks were written.
        uncertainty_map: the map that was written there, too; None where there is none.
        answer_unadapted: writes the masks of the unadapted answer into the same folder, under the same names.
        text: what is written on it.

    Returns:
        the file.

    Raises:
        ValueError: for what cannot be drawn. The masks are then as they were, and nothing else is left.
    """
    masks = [file for file in _files_in(folder) if file != uncertainty_map]
    path = masks[0].with_name(f"{file_names(masks, name)['preview']}.png")
    if path.exists():
        raise ValueError("one of its masks has the name of the preview")
    shown = load_shown(image)
    labels = _labels_of(masks, image, text.names, case.head)
    unadapted = None
    if case.adapted:
        with _masks_aside(folder, answer_unadapted) as masks_before:
            labels = labels_of_both(labels, _labels_of(masks_before, image, text.names, case.head))
            unadapted = structures_of(masks_before, labels, shown)
    answer = structures_of(masks, labels, shown)
    title = None if text.anonymous else name_of(masks[0]) if len(masks) == 1 else name
    reason = case.reason and without_paths(case.reason, image, [folder], anonymous=text.anonymous, name=name)
    words = picture_words(case, text.names, reason)
    path.write_bytes(_drawn(shown, unadapted, answer, case.adapted, title, words, text.ends))
    return path


def picture_of_entry(
    image: Path,
    masks: Sequence[Path],
    entry: Mapping[str, Any],
    unadapted: RecordedAnswer | None = None,
    ends: tuple[float, float] | None = None,
) -> bytes:
    """The picture of a case that is on record, as a PNG's content.

    Args:
        image: see `load_shown`.
        masks: of the case.
        entry: of the case in ``records.json``.
        unadapted: the unadapted answer to an adapted case; None where it is not to be had, which the picture then says.
        ends: see `PreviewText`.

    Raises:
        ValueError: for what cannot be drawn.
    """
    shown = load_shown(image)
    labels = entry["labels"] if unadapted is None else labels_of_both(entry["labels"], unadapted.labels)
    answer = structures_of(masks, labels, shown)
    before = None if unadapted is None else structures_of(unadapted.masks, labels, shown)
    is_adapted = entry["status"] == "adapted"
    words = picture_words_of_entry(entry)
    if is_adapted and unadapted is None:
        words = f"{words}; {_NOT_KEPT}"
    title = name_of(masks[0]) if len(masks) == 1 else entry.get("name")
    return _drawn(shown, before, answer, is_adapted, title, words, ends)


def _drawn(
    shown: Shown,
    unadapted: Tensor | None,
    answer: Tensor,
    is_adapted: bool,
    title: str | None,
    words: str,
    ends: tuple[float, float] | None,
) -> bytes:
    """The picture of an answer, and of the unadapted one where that is another and known."""
    found = answer.any(0)
    if not found.any():
        words = f"{NOTHING}; {words}"
        found = found if unadapted is None else unadapted.any(0)
    if shown.channels > 1:
        words = f"{words}; the first of {shown.channels} channels is shown"
    panels = []
    for plane in planes(shown, found):
        picture = plane.cut(shown.values)
        values = picture.transpose(1, 2, 0) if shown.is_photograph else picture[0]
        ours = plane.cut(answer)
        before = None if unadapted is None else plane.cut(unadapted)
        unadapted_slice, adapted_slice = (before, ours) if is_adapted else (ours, None)
        grey = None if shown.is_photograph else ends
        panels.append(PreviewPanel(plane.caption, values, unadapted_slice, adapted_slice, plane.pixel, plane.left, grey))
    return draw_preview(panels, title, words)


@contextmanager
def _masks_aside(folder: Path, answer_unadapted: Callable[[], None]) -> Iterator[list[Path]]:
    """The masks of the unadapted answer, which are removed afterwards. Those of the adapted one lie aside for so long."""
    aside = Path(tempfile.mkdtemp(dir=folder))
    try:
        for entry in [entry for entry in folder.iterdir() if entry != aside]:
            entry.rename(aside / entry.name)
        answer_unadapted()
        yield [file for file in _files_in(folder) if aside not in file.parents]
    finally:
        clear(folder, keep=aside)
        for entry in list(aside.iterdir()):
            entry.rename(folder / entry.name)
        aside.rmdir()


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _labels_of(masks: Sequence[Path], image: Path, names: LabelNames, head: str) -> list[Mapping[str, Any]]:
    """Which value or channel is which structure, as in the records; empty where that is not known."""
    try:
        return [amount.on_record() for amount in amounts_in(masks, files_of(image)[0], names, head)]
    except UnknownLabels:
        return []
