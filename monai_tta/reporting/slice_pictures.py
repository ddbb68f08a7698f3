"""Draws slices of an image beside the same with the outlines of its answers: each structure has a colour and a letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_tta.reporting.case_pictures import (
    LETTER_SIZE,
    SIZE,
    Colour,
    background,
    crop_box,
    filled,
    outlined,
    png_of,
    sheet,
    with_side,
    write_on,
)

STRUCTURES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))  # Okabe and Ito 2008
UNADAPTED_TITLE = "unadapted mask"
PHOTOGRAPH_SIZE = 450  # pixels of a panel's longer side; vessels are thin, and a page holds many photographs
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class StructureMark:
    """How a structure is drawn: its outline has a colour, and a letter stands beside it, for whom colours look alike.

    Args:
        letter: of the alphabet, in the order of the structures.
        colour: of `STRUCTURES`.
        name: what it is called.
    """

    letter: str
    colour: Colour
    name: str

    @property
    def css(self) -> str:
        """The colour as a page writes it."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case on a page.

    Args:
        slices: captions and PNGs.
        marks: of the structures in them.
        largest: the largest value, in nats, that the map of uncertainty in them can have; None where there is no map.
        preview: the PNG that the run drew; None where it drew none.
        notes: what is not in them and why, and how they are drawn.
        has_unadapted: whether the unadapted answer to an adapted case has a panel of its own.
    """

    slices: Sequence[tuple[str, bytes]]
    marks: Sequence[StructureMark] = ()
    largest: float | None = None
    preview: bytes | None = None
    notes: Sequence[str] = ()
    has_unadapted: bool = False


def structure_marks(names: Sequence[str], on_photograph: bool = False) -> list[StructureMark]:
    """How structures are drawn, in their order; colours come from the first again after the last.

    Args:
        names: what they are called.
        on_photograph: whether they are drawn on a photograph. Orange then comes last, not first: an eye's ground is orange.
    """
    first = 1 if on_photograph else 0
    colours = (*STRUCTURES[first:], *STRUCTURES[:first])
    return [StructureMark(_LETTERS[n % len(_LETTERS)], colours[n % len(colours)], name) for n, name in enumerate(names)]


def draw_slice(
    image: NDArray[np.floating],
    mask: NDArray[np.bool_],
    pixel: tuple[float, float] = (1.0, 1.0),
    uncertainty: NDArray[np.floating] | None = None,
    *,
    unadapted: NDArray[np.bool_] | None = None,
    title: str = "mask",
    left: str = "",
    ends: tuple[float, float] | None = None,
) -> bytes:
    """A slice, and beside it the same with the outlines of its answers, cut to what they found, as a PNG's content.

    Where there are two answers, what a structure has in one of them alone is filled there.

    Args:
        image: ``(rows, columns)``, or ``(rows, columns, 3)`` for a photograph, as for `draw_case`.
        mask: ``(structures, rows, columns)``, drawn as `structure_marks` says.
        pixel: height and width of a pixel, in one unit.
        uncertainty: ``(rows, columns)``, from 0, drawn black, to 1, drawn white; None for no panel of it.
        unadapted: the unadapted answer, of the shape of ``mask``; None for no panel of it.
        title: of the panel with the mask.
        left: the side of the patient that is on the left; "" where nobody knows.
        ends: the values that are drawn black and white; None for the percentiles of `draw_case`.
    """
    found = mask if unadapted is None else mask | unadapted
    box = crop_box(np.asarray(found.any(0)), pixel)
    on_photograph = image.ndim == 3
    behind = background(image, box, pixel, PHOTOGRAPH_SIZE if on_photograph else SIZE, ends)
    cut = (slice(None), *box)
    ours = mask[cut]
    before = None if unadapted is None else unadapted[cut]
    panels = [("image", with_side(behind, left))]
    if before is not None:
        panels.append((UNADAPTED_TITLE, with_side(_marked(behind, before, before & ~ours, on_photograph), left)))
    alone = np.zeros_like(ours) if before is None else ours & ~before
    panels.append((title, with_side(_marked(behind, ours, alone, on_photograph), left)))
    if uncertainty is not None:
        grey = np.clip(255 * uncertainty[box], 0, 255).astype(np.uint8)
        panels.append(("uncertainty", Image.fromarray(grey).resize(behind.size, Image.Resampling.BILINEAR).convert("RGB")))
    return png_of(sheet(panels))


def _marked(behind: Image.Image, mask: NDArray[np.bool_], alone: NDArray[np.bool_], on_photograph: bool) -> Image.Image:
    """A slice with the outline and the letter of each structure of an answer; what this answer alone holds is filled."""
    marks = structure_marks([""] * len(mask), on_photograph)
    for one, mark in zip(alone, marks, strict=True):
        behind = filled(behind, one, mark.colour)
    drawn = outlined(behind, [(one, mark.colour) for one, mark in zip(mask, marks, strict=True)], 1 if on_photograph else 2)
    for one, mark in zip(mask, marks, strict=True):
        _write_letter(drawn, one, mark)
    return drawn


def _write_letter(panel: Image.Image, mask: NDArray[np.bool_], mark: StructureMark) -> None:
    """Write a structure's letter beside its topmost point, where the plane holds any of it."""
    if not mask.any():
        return
    row = int(np.flatnonzero(mask.any(1))[0])
    column = int(np.flatnonzero(mask[row]).mean())
    left, top = (column + 0.5) * panel.width / mask.shape[1], row * panel.height / mask.shape[0]
    write_on(panel, (min(left, panel.width - LETTER_SIZE), max(0, top - LETTER_SIZE - 4)), mark.letter, mark.colour)
