"""The preview of a case: its planes with the outlines of the unadapted and the adapted answer, a title and a legend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from monai_tta.reporting.case_pictures import (
    ADAPTED,
    GAP,
    SIZE,
    STRIP,
    UNADAPTED,
    background,
    crop_box,
    filled,
    outlined,
    png_of,
    sheet,
    with_side,
)

PHOTOGRAPH_SIZE = 900  # pixels of its longer side; vessels are thin
LEGEND_UNADAPTED = "unadapted"
LEGEND_ADAPTED = "adapted"
LEGEND_DIFFERENCE = "filled where they differ"
_FONT_SIZE = 15
_LINE = 20  # pixels from one line of text to the next
_MOST_LINES = 8
_SWATCH = 12


@dataclass(frozen=True, eq=False)
class PreviewPanel:
    """One plane of a case.

    Args:
        caption: what it is called.
        image: ``(rows, columns)``, or ``(rows, columns, 3)`` for a photograph, as for `draw_case`.
        unadapted: ``(structures, rows, columns)``, the unadapted answer; None where it is not known.
        adapted: the same shape, the adapted answer; None where there is none.
        pixel: height and width of a pixel, in one unit.
        left: the side of the patient that is on the left; "" where nobody knows.
        ends: the values that are drawn black and white; None for the percentiles of `draw_case`.
    """

    caption: str
    image: NDArray[np.floating]
    unadapted: NDArray[np.bool_] | None
    adapted: NDArray[np.bool_] | None
    pixel: tuple[float, float] = (1.0, 1.0)
    left: str = ""
    ends: tuple[float, float] | None = None


def draw_preview(panels: Sequence[PreviewPanel], title: str | None, words: str) -> bytes:
    """A case as a PNG's content. A volume's planes are cut to what was found; a photograph is shown whole.

    Args:
        panels: of the case, one or more.
        title: what the case is called; None for no title.
        words: what became of it.
    """
    drawn = sheet([(one.caption, _panel(one)) for one in panels])
    width = max(drawn.width, 2 * SIZE)
    lines = [*_wrapped(title or "", width), *_wrapped(words, width)]
    head = _LINE * len(lines) + GAP
    whole = Image.new("RGB", (width, head + drawn.height + STRIP + GAP), "white")
    text = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        text.text((2, _LINE * number + 2), line, fill="black", font=_font())
    whole.paste(drawn, (0, head))
    _draw_legend(text, panels, head + drawn.height + GAP)
    return png_of(whole)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def _panel(one: PreviewPanel) -> Image.Image:
    """A plane with both outlines, filled where the answers differ."""
    is_photograph = one.image.ndim == 3
    answers = [answer for answer in (one.unadapted, one.adapted) if answer is not None]
    shape = one.image.shape[:2]
    found = np.any(np.concatenate(answers), axis=0) if answers else np.zeros(shape, bool)
    box = crop_box(np.zeros(shape, bool) if is_photograph else found, one.pixel)
    behind = background(one.image, box, one.pixel, PHOTOGRAPH_SIZE if is_photograph else SIZE, one.ends)
    outlines = []
    if one.unadapted is not None and one.adapted is not None:
        behind = filled(behind, _alone(one.unadapted, one.adapted)[box], UNADAPTED)
        behind = filled(behind, _alone(one.adapted, one.unadapted)[box], ADAPTED)
    for answer, colour in ((one.unadapted, UNADAPTED), (one.adapted, ADAPTED)):
        outlines += [(structure[box], colour) for structure in answer] if answer is not None else []
    return with_side(outlined(behind, outlines, 1 if is_photograph else 2), one.left)


def _alone(answer: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where an answer holds a structure that the other one does not hold there."""
    return np.asarray((answer & ~other).any(0))


def _draw_legend(text: ImageDraw.ImageDraw, panels: Sequence[PreviewPanel], top: int) -> None:
    """The colours of the answers that are there, and what a filled place means."""
    is_there = {
        LEGEND_UNADAPTED: (UNADAPTED, any(one.unadapted is not None for one in panels)),
        LEGEND_ADAPTED: (ADAPTED, any(one.adapted is not None for one in panels)),
    }
    left = 2
    for name, (colour, there) in is_there.items():
        if there:
            text.rectangle((left, top + 3, left + _SWATCH, top + 3 + _SWATCH), fill=colour, outline="black")
            left += _SWATCH + GAP
            text.text((left, top), name, fill="black", font=_font())
            left += round(_font().getlength(name)) + 3 * GAP
    if all(there for _, there in is_there.values()):
        text.text((left, top), LEGEND_DIFFERENCE, fill="black", font=_font())


def _wrapped(words: str, width: int) -> list[str]:
    """A text as lines that are no wider than so many pixels. What no font can draw is written as an escape."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in words)
    columns = max(8, len(plain))
    while True:
        lines = textwrap.wrap(plain, columns, max_lines=_MOST_LINES, placeholder=" ...")
        widest = max((_font().getlength(line) for line in lines), default=0)
        if widest <= width - 4 or columns <= 8:
            return lines
        columns = max(8, min(columns - 1, int(columns * (width - 4) / widest)))
