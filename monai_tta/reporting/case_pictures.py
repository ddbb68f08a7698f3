"""Draws an example case with its label and answers side by side, and what every picture of a case is made of."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

Colour = tuple[int, int, int]

LABEL = (240, 228, 66)  # these colours are told apart by colour-blind readers, too; tables.html names the same
UNADAPTED = (255, 143, 208)
ADAPTED = (61, 220, 151)
SIZE = 300  # pixels of a panel's longer side
GAP = 6
STRIP = 22  # pixels above the panels for their titles
MARGIN = 0.25  # how much is shown around the structure, as a share of its longer side
FILL = 0.45  # how much of the colour there is in a filled place; the image shines through
LETTER_SIZE = 18


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
        write_on(made, (4, max(0, (panel.height - LETTER_SIZE) // 2 - 2)), left, "white")  # whole in a low panel, too
    return made


def write_on(panel: Image.Image, place: tuple[float, float], text: str, colour: str | Colour) -> None:
    """Write on a panel, with an edge that stands out from any image.

    Args:
        panel: of a plane; it is changed.
        place: of the text's upper left corner.
        text: a few letters.
        colour: of the text.
    """
    font = ImageFont.load_default(LETTER_SIZE)
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


def filled(behind: Image.Image, place: NDArray[np.bool_], colour: Colour) -> Image.Image:
    """A copy with a place in a colour through which the image shines.

    Args:
        behind: what is filled.
        place: ``(rows, columns)``.
        colour: of the place.
    """
    large = Image.fromarray(place.astype(np.uint8) * round(255 * FILL)).resize(behind.size, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", behind.size, colour), behind, large)
