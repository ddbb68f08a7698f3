"""Photographs and other pictures on their way to a bundle's reader, which sees them as they are shown, or not at all.

Readers take the pixels as they lie in a file. A picture that is turned by its EXIF tag, has 16 bits, a palette or transparent
places would come to the network other than a person sees it, and nothing would tell.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from monai_tta.transforms.pictures import as_shown, colours_as_shown, is_grey, is_plain, n_pages, orientation_of

_VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".dcm")


@dataclass(frozen=True)
class Readable:
    """What a bundle's reader is given for an image.

    Args:
        path: the file or folder; for a picture that needs it, an 8-bit upright copy.
        notes: what a person should know of it, in words.
        is_picture: whether it is a picture.
    """

    path: Path
    notes: tuple[str, ...] = ()
    is_picture: bool = False


def check_picture(image: Path) -> None:
    """Refuse a picture that cannot be shown in one way: see `monai_tta.transforms.pictures.as_shown`.

    A file that Pillow does not know is left to the bundle's readers.

    Raises:
        ValueError: saying what is wrong, and what to do.
    """
    if (picture := _opened(image)) is None:
        return
    with picture:
        if (pages := n_pages(picture)) > 1:
            raise ValueError(f"{image} holds {pages} pages or frames; save each as a file of its own")
        if not is_plain(picture):
            _shown(image, picture)


@contextmanager
def readable_picture(image: Path, channels: int | None = None, highest: float | None = None) -> Iterator[Readable]:
    """What a bundle's reader is to be given for an image, as long as this is open.

    A plain picture, and whatever is no picture, is given as it is. Of any other picture the reader gets a PNG in 8 bits, upright
    and opaque, that is removed afterwards.

    Args:
        image: a file, or the folder of a series.
        channels: how many the network expects, where the bundle says so. Three of a grey picture are equal.
        highest: the value that the bundle's preprocessing scales to its maximum, where it says so. One that is above 255 expects
            the deep values themselves, so that a picture of more than 8 bits is given as it is.

    Raises:
        ValueError: see `check_picture`; and for a picture that must be turned and would lose bits by it.
    """
    picture = _opened(image)
    if picture is None:
        yield Readable(image)
        return
    with picture:
        needs_colour = channels == 3 and is_grey(picture)
        notes = ["it is grey, and the network expects colours: its three channels are equal"] if needs_colour else []
        if is_plain(picture) and not needs_colour:
            yield Readable(image, is_picture=True)
            return
        turn = orientation_of(picture)
        if highest is not None and highest > 256 and picture.mode.startswith("I"):
            if turn != 1:
                raise ValueError(f"{image} must be turned (EXIF orientation {turn}); save it upright")
            yield Readable(image, is_picture=True)
            return
        shown = _shown(image, picture, colours_as_shown if needs_colour else as_shown)
    if turn != 1:
        notes.append(f"turned as its EXIF orientation {turn} says; the mask lies like the picture is shown")
    with tempfile.TemporaryDirectory(prefix="monai_tta-picture-") as folder:
        copy = Path(folder) / "picture.png"
        shown.save(copy, compress_level=1)
        yield Readable(copy, tuple(notes), is_picture=True)


def _opened(image: Path) -> Image.Image | None:
    """The picture in a file, of which the header was read; None where it is none that Pillow knows."""
    if not image.is_file() or image.name.lower().endswith(_VOLUMES):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, which the check of memory judges
            return Image.open(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{image} declares too many pixels: {error}") from None
    except Exception:  # parsers of headers raise errors of many kinds
        return None


def _shown(image: Path, picture: Image.Image, show: Callable[[Image.Image], Image.Image] = as_shown) -> Image.Image:
    """The picture as it is shown, with errors that name the file."""
    try:
        return show(picture)
    except ValueError as error:
        raise ValueError(f"{image} {error}") from None  # the innermost message is shown
    except Exception as error:  # decoders raise errors of many kinds
        raise ValueError(f"{image} is damaged: {error}") from None
