"""Photographs and other pictures as they are shown: upright, opaque, 8 bits, one page; everything else is refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
WHITE_OF_16_BITS = 65535
_WHITE_INVERTED = 0  # TIFF's photometric interpretation "white is zero"
_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N", "I", "F", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def colours_as_shown(picture: Image.Image) -> Image.Image:
    """A picture as it is shown, in 8-bit RGB: for ``LoadImaged(reader="PILReader", converter=colours_as_shown)``.

    Args:
        picture: an opened file.

    Returns:
        it in mode "RGB". The three channels of a grey picture are equal.

    Raises:
        ValueError: see `as_shown`; and for grey of more than 8 bits, which is no photograph: X-rays and angiograms come so.
    """
    is_deep_grey = is_grey(picture) and _bits(picture) > 8
    shown = as_shown(picture)
    if is_deep_grey:
        raise ValueError("holds deep grey values (more than 8 bits), where a colour photograph is expected; save it in 8 bits")
    return shown.convert("RGB")


def as_shown(picture: Image.Image) -> Image.Image:
    """A picture as it is shown: turned as its EXIF orientation says, in 8 bits, without palette and alpha.

    16 bits are scaled so that 65535 becomes 255. Colour profiles are not applied.

    Args:
        picture: an opened file.

    Returns:
        it in mode "L" where it is grey and in mode "RGB" otherwise.

    Raises:
        ValueError: for more than one page; for transparent places, because what is underneath is nobody's picture; for a kind of
            colour that is none of a camera (CMYK, Lab); for 32-bit and float values, and 16 bits that use less than a quarter of
            their range, because they do not say what white is.
        OSError: for a damaged file.
    """
    if (pages := n_pages(picture)) > 1:
        raise ValueError(f"holds {pages} pages or frames; save each as a file of its own")
    if picture.mode not in (*_GREY, *_COLOUR):
        raise ValueError(f"has colours of the kind {picture.mode}, which no camera records; save it as RGB")
    orientation = orientation_of(picture)
    is_turned_by_reading = picture.format == "TIFF"
    is_deep = _bits(picture) > 8
    is_white_inverted = _is_white_inverted(picture)
    picture.load()
    _check_opaque(picture)
    shown = _in_8_bits(picture, is_white_inverted)
    if is_deep:
        _check_uses_its_range(shown)
    return shown if is_turned_by_reading or orientation not in _TURNS else shown.transpose(_TURNS[orientation])


def is_plain(picture: Image.Image) -> bool:
    """Whether any reader shows a picture alike: one upright page of 8-bit grey or RGB. Only the header is read."""
    return (
        picture.mode in ("L", "RGB")
        and _bits(picture) <= 8
        and orientation_of(picture) == 1
        and not picture.has_transparency_data
        and n_pages(picture) == 1
    )


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture has no colours by its kind. Only the header is read."""
    return picture.mode in _GREY


def n_pages(picture: Image.Image) -> int:
    """How many pages, frames or layers a file has."""
    return int(getattr(picture, "n_frames", 1))


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation of a picture that was opened and not yet loaded: 1 (upright) to 8; 1 where it says none.

    A picture that is laid on its side or mirrored is turned by every viewer, and by few readers.
    """
    tags = getattr(picture, "tag_v2", None)
    found: Any = picture.getexif().get(ORIENTATION, 1) if tags is None else tags.get(ORIENTATION, 1)
    return int(found) if found in _TURNS else 1


def _bits(picture: Image.Image) -> int:
    """Bits of each value in the file; Pillow reads 16-bit colours as 8-bit ones."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return 16 if ";16" in picture.mode or picture.format == "PPM" else 32
    tiles: Any = getattr(picture, "tile", None)
    raw = str(tiles[0][3]) if tiles else ""
    return 16 if ";16" in raw else 8


def _is_white_inverted(picture: Image.Image) -> bool:
    """Whether 0 is white and Pillow does not know it: it turns 8 bits around and leaves 16 as they are."""
    tags = getattr(picture, "tag_v2", None)
    return tags is not None and tags.get(262) == _WHITE_INVERTED and _bits(picture) > 8


def _check_opaque(picture: Image.Image) -> None:
    """Refuse a picture that shows what lies behind it somewhere."""
    key = picture.info.get("transparency")
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        is_clear = key is not None and bool((np.asarray(picture) == key).any())
    else:
        is_clear = picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255
    if is_clear:
        raise ValueError("is transparent in places, and what is underneath is not part of the picture; save it without alpha")


def _in_8_bits(picture: Image.Image, is_white_inverted: bool) -> Image.Image:
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    if picture.mode in ("LA", "La"):
        return picture.convert("RGBA").convert("L")
    if picture.mode in _COLOUR:
        return picture.convert("RGBA").convert("RGB") if picture.mode in ("RGBa", "PA") else picture.convert("RGB")
    if _bits(picture) > 16:
        kind = "floating-point" if picture.mode == "F" else "32-bit"
        raise ValueError(f"holds {kind} values, which do not say what white is; save it in 8 or 16 bits")
    white = _white(picture)
    values = np.asarray(picture).astype(np.int64)
    if values.max() > white or values.min() < 0:
        raise ValueError(f"holds values from {values.min()} to {values.max()}, where white is {white}")
    values = white - values if is_white_inverted else values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _white(picture: Image.Image) -> int:
    """What white is in a grey picture of more than 8 bits."""
    tags = getattr(picture, "tag_v2", None)
    bits = tags.get(258, (16,))[0] if tags is not None else 16
    return 2 ** int(bits) - 1 if 8 < int(bits) < 16 else WHITE_OF_16_BITS


def _check_uses_its_range(shown: Image.Image) -> None:
    """Refuse 10, 12 or 14 bits in 16 that pass for a dark picture."""
    highest = int(np.asarray(shown).max())
    if highest < 64:  # 0, too: values below 128 of 65535 are black in 8 bits
        raise ValueError(
            f"holds 16-bit values of which the highest is {highest / 255:.1%} of white: it has fewer bits than its file, or is "
            "very dark; save it in 8 bits as it should look"
        )
