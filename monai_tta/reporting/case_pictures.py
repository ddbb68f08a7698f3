"""Draws cases: an example case with its label and answers side by side, and slices of an image with the outlines of its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

Colour = tuple[int, int, int]

LABEL = (240, 228, 66)  # these colours are told apart by colour-blind readers, too; tables.html names the same
UNADAPTED = (255, 143, 208)
ADAPTED = (61, 220, 151)
STRUCTURES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))  # Okabe and Ito 2008
SIZE = 300  # pixels of a panel's longer side
GAP = 6
STRIP = 22  # pixels above the panels for their titles
MARGIN = 0.25  # how much is shown around the structure, as a share of its longer side
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTER_SIZE = 18


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
    """

    slices: Sequence[tuple[str, bytes]]
    marks: Sequence[StructureMark] = ()
    largest: float | None = None
    preview: bytes | None = None
    notes: Sequence[str] = ()


def structure_marks(names: Sequence[str]) -> list[StructureMark]:
    """How structures are drawn, in their order; colours come from the first again after the last.

    Args:
        names: what they are called.
    """
    found = enumerate(names)
    return [StructureMark(_LETTERS[n % len(_LETTERS)], STRUCTURES[n % len(STRUCTURES)], name) for n, name in found]


def draw_case(
    image: NDArray[np.floating],
    label: NDArray[np.bool_],
    unadapted: NDArray[np.bool_],
    adapted: NDArray[np.bool_],
    pixel: tuple[float, float] = (1.0, 1.0),
) -> bytes:
    """Three panels side by side, cut to the structure and both answers, as a PNG's content.

    Args:
        image: ``(rows, columns)``, or ``(rows, columns, 3)`` for a photograph, of any range: the 1st percentile is drawn black,
            the 99th white.
        label: ``(labels, rows, columns)``, the truth.
        unadapted: the same shape, the answer by Source.
        adapted: the same shape, the answer by the contender.
        pixel: height and width of a pixel, in one unit; the picture keeps their ratio.
    """
    box = crop_box(np.any(np.concatenate([label, unadapted, adapted]), axis=0, keepdims=True)[0], pixel)
    behind = background(image, box, pixel)
    truth = [(mask[box], LABEL) for mask in label]
    panels = [
        ("image", behind),
        ("label and unadapted", outlined(behind, [*truth, *((mask[box], UNADAPTED) for mask in unadapted)])),
        ("label and adapted", outlined(behind, [*truth, *((mask[box], ADAPTED) for mask in adapted)])),
    ]
    return png_of(sheet(panels))


def draw_slice(
    image: NDArray[np.floating],
    mask: NDArray[np.bool_],
    pixel: tuple[float, float] = (1.0, 1.0),
    uncertainty: NDArray[np.floating] | None = None,
    *,
    title: str = "mask",
    left: str = "",
    ends: tuple[float, float] | None = None,
) -> bytes:
    """A slice, and beside it the same with the outlines of its mask, cut to the mask, as a PNG's content.

    Args:
        image: ``(rows, columns)``, or ``(rows, columns, 3)`` for a photograph, as for `draw_case`.
        mask: ``(structures, rows, columns)``, drawn as `structure_marks` says.
        pixel: height and width of a pixel, in one unit.
        uncertainty: ``(rows, columns)``, from 0, drawn black, to 1, drawn white; None for no third panel.
        title: of the panel with the mask.
        left: the side of the patient that is on the left; "" where nobody knows.
        ends: the values that are drawn black and white; None for the percentiles of `draw_case`.
    """
    box = crop_box(np.asarray(mask.any(0)), pixel)
    behind = background(image, box, pixel, ends=ends)
    marks = structure_marks([""] * len(mask))
    drawn = outlined(behind, [(one[box], mark.colour) for one, mark in zip(mask, marks, strict=True)])
    for one, mark in zip(mask, marks, strict=True):
        _write_letter(drawn, one[box], mark)
    panels = [("image", with_side(behind, left)), (title, with_side(drawn, left))]
    if uncertainty is not None:
        grey = np.clip(255 * uncertainty[box], 0, 255).astype(np.uint8)
        panels.append(("uncertainty", Image.fromarray(grey).resize(behind.size, Image.Resampling.BILINEAR).convert("RGB")))
    return png_of(sheet(panels))


def background(
    image: NDArray[np.floating],
    box: tuple[slice, slice],
    pixel: tuple[float, float],
    size: int = SIZE,
    ends: tuple[float, float] | None = None,
) -> Image.Image:
    """The part of a slice in a box, in grey or colours, at the right aspect.

    Args:
        image: ``(rows, columns)``, or ``(rows, columns, 3)`` for a photograph.
        box: rows and columns.
        pixel: height and width of a pixel, in one unit.
        size: pixels of the longer side.
        ends: the values that are drawn black and white; None for the 1st and the 99th percentile of what is shown.
    """
    height = (box[0].stop - box[0].start) * pixel[0]
    width = (box[1].stop - box[1].start) * pixel[1]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = _grey(image[box], ends)
    return Image.fromarray(grey if grey.ndim == 3 else np.stack([grey] * 3, -1)).resize(shape, Image.Resampling.BICUBIC)


def sheet(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Panels side by side, at the top, each under its title."""
    steps = [max(panel.width, SIZE // 2) + GAP for _, panel in panels]  # a narrow panel leaves room for its title
    made = Image.new("RGB", (sum(steps) - GAP, max(panel.height for _, panel in panels) + STRIP), "white")
    for number, (title, panel) in enumerate(panels):
        left = sum(steps[:number])
        made.paste(panel, (left, STRIP))
        ImageDraw.Draw(made).text((left, 2), title, fill="black", font=ImageFont.load_default(14))
    return made


def png_of(picture: Image.Image) -> bytes:
    """A picture as a PNG's content."""
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


def crop_box(mask: NDArray[np.bool_], pixel: tuple[float, float]) -> tuple[slice, slice]:
    """The part of a slice that holds the mask, with a margin; the whole slice where the mask is empty.

    Args:
        mask: ``(rows, columns)``.
        pixel: height and width of a pixel, in one unit.
    """
    if not mask.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    ends = [(int(places[0]), int(places[-1]) + 1) for places in (np.flatnonzero(mask.any(1 - axis)) for axis in (0, 1))]
    margin = MARGIN * max((high - low) * size for (low, high), size in zip(ends, pixel, strict=True))
    rows, columns = (
        slice(max(0, low - round(margin / size)), min(length, high + round(margin / size)))
        for (low, high), size, length in zip(ends, pixel, mask.shape, strict=True)
    )
    return rows, columns


def _grey(image: NDArray[np.floating], ends: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Values as bytes, from one end to the other, by default from the 1st to the 99th percentile."""
    finite = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(finite, [1, 99]) if ends is None else ends
    return np.clip(255 * (finite - low) / max(high - low, 1e-12), 0, 255).astype(np.uint8)


def with_side(panel: Image.Image, left: str) -> Image.Image:
    """A copy that says which side of the patient is on its left.

    Args:
        panel: of a plane.
        left: the side; "" where nobody knows, and nothing is written.
    """
    made = panel.copy()
    if left:
        _write(made, (4, panel.height // 2), left, "white")
    return made


def _write_letter(panel: Image.Image, mask: NDArray[np.bool_], mark: StructureMark) -> None:
    """Write a structure's letter beside its topmost point, where the plane holds any of it."""
    if not mask.any():
        return
    row = int(np.flatnonzero(mask.any(1))[0])
    column = int(np.flatnonzero(mask[row]).mean())
    left, top = (column + 0.5) * panel.width / mask.shape[1], row * panel.height / mask.shape[0]
    _write(panel, (min(left, panel.width - _LETTER_SIZE), max(0, top - _LETTER_SIZE - 4)), mark.letter, mark.colour)


def _write(panel: Image.Image, place: tuple[float, float], text: str, colour: str | Colour) -> None:
    font = ImageFont.load_default(_LETTER_SIZE)
    ImageDraw.Draw(panel).text(place, text, fill=colour, font=font, stroke_width=2, stroke_fill="black")


def outlined(behind: Image.Image, masks: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]], wide: int = 2) -> Image.Image:
    """A copy with the outline of each mask, inside the mask; later ones are drawn over earlier ones.

    Args:
        behind: what they are drawn on.
        masks: ``(rows, columns)`` with their colours.
        wide: pixels of an outline.
    """
    pixels = np.array(behind)
    for mask, colour in masks:
        large = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(behind.size, Image.Resampling.NEAREST)) > 0
        pixels[large & ~binary_erosion(large, iterations=wide)] = colour
    return Image.fromarray(pixels)
