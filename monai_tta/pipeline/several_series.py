"""A folder that holds several DICOM series: a folder of links for each, which every reader takes for a series by itself."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from monai_tta.pipeline.ask_itk import is_text
from monai_tta.pipeline.describe_error import LINKS
from monai_tta.pipeline.enhanced_dicom import is_enhanced
from monai_tta.pipeline.image_names import name_of, numbered
from monai_tta.pipeline.slice_headers import (
    IMAGE_TYPE,
    SERIES,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    SliceHeader,
    holds_no_image,
    read_slice,
)

_LONGEST = 40  # characters of a series' description in a name


@dataclass(frozen=True)
class SplitSeries:
    """What a folder of several series was split into.

    Args:
        folders: one for each series that may be a scan, in the order of the series' numbers.
        root: stands for the folder that was given, in a place where ``folders`` lie as series beside the folder that was split.
        skipped: the first slice of each series that is no scan, with the reason.
    """

    folders: tuple[Path, ...]
    root: Path
    skipped: tuple[tuple[Path, str], ...]


def split_series(folder: Path, root: Path, slices: Sequence[Path]) -> SplitSeries | None:
    """Give each series of a folder a folder of its own, with links to its slices. They last as long as this process.

    An Enhanced file holds a volume, so it counts as a series by itself, also where several files have one series' UID. Series of
    localizers alone are no scans. Neither are those that do not say where they lie, such as the screenshot of a dose report,
    beside others that do.

    Args:
        folder: holds the slices.
        root: the folder that was given; it holds ``folder`` at some depth, or is it.
        slices: DICOM files that are images.

    Returns:
        None where all slices are of one series, or in one Enhanced file. None, too, where one of them cannot be read: nobody
        knows of which series it is, so the folder is left as it is, and is refused when its turn comes.
    """
    by_series = _by_series(slices)
    if len(by_series) < 2:
        return None
    is_placed = any(map(_has_place, by_series.values()))
    skipped, names, chosen = [], [], []
    for headers in sorted(by_series.values(), key=_order):
        if reason := _no_scan(headers, is_placed):
            skipped.append((headers[0].file, reason))
        else:
            names.append(f"{folder.name}_{_words(headers)}")
            chosen.append([header.file for header in headers])
    place, own_root = _place_of_links(folder, root)
    folders = tuple(place / name for name in numbered(names))
    for links, files in zip(folders, chosen, strict=True):
        _link(links, files)
    return SplitSeries(folders, own_root, tuple(skipped))


def _by_series(slices: Sequence[Path]) -> Mapping[tuple[str, str], list[SliceHeader]]:
    """The slices of each series, by its UID, and each Enhanced file by its name, too; nothing where one cannot be read."""
    if not all(map(is_text, slices)):  # ITK opens no file whose path is no text
        return {}
    found: dict[tuple[str, str], list[SliceHeader]] = {}
    for file in slices:
        header = read_slice(file)
        if header is not None:
            volume = file.name if is_enhanced(header) else ""
            found.setdefault((header.tags.get(SERIES, ""), volume), []).append(header)
        elif not holds_no_image(file):
            return {}
    return found


def _has_place(headers: Sequence[SliceHeader]) -> bool:
    """Whether some slice says where it lies. A series of which only some do is a scan, and is refused when its turn comes."""
    return any(header.has_place or is_enhanced(header) for header in headers)


def _no_scan(headers: Sequence[SliceHeader], is_placed: bool) -> str:
    """Why a series is no scan; "" where it may be one. ``is_placed``: whether some series of the folder says where it lies."""
    if all("LOCALIZER" in header.tags.get(IMAGE_TYPE, "").upper().split("\\") for header in headers):
        return "a series of localizers beside others; give it a folder of its own"
    if is_placed and not _has_place(headers):
        return "a series that does not say where it lies, beside others that do; give it a folder of its own"
    return ""


def _order(headers: Sequence[SliceHeader]) -> tuple[int, str, str]:
    number = headers[0].tags.get(SERIES_NUMBER, "")
    return int(number) if number.isdecimal() else 0, headers[0].tags.get(SERIES, ""), headers[0].name


def _words(headers: Sequence[SliceHeader]) -> str:
    """What a series is called: its number and its description, as a file's name can have them; the file's name where it is one.

    In a folder of single radiographs many have the same number and description.
    """
    header = headers[0]
    if len(headers) == 1:
        return name_of(header.file)
    said = [header.tags.get(SERIES_NUMBER, ""), header.tags.get(SERIES_DESCRIPTION, "")[:_LONGEST]]
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") for text in said]
    return "_".join(filter(None, words)) or "series"


@cache
def _links() -> tempfile.TemporaryDirectory[str]:
    """The folder of all links of this process, which ends with it."""
    return tempfile.TemporaryDirectory(prefix=LINKS)


def _place_of_links(folder: Path, root: Path) -> tuple[Path, Path]:
    """Where the series of a folder lie, and what stands for the folder that was given.

    All folders above are there, called as they are: names of images are made of them.
    """
    beside, own_root = (Path(_links().name).joinpath(*Path(os.path.abspath(place)).parts[1:]) for place in (folder.parent, root))
    return beside, own_root


def _link(links: Path, files: Sequence[Path]) -> None:
    """A folder with a link to each file, or with a copy where a system allows no links."""
    if links.exists():  # by an earlier search
        shutil.rmtree(links)
    links.mkdir(parents=True)
    for file in files:
        try:
            (links / file.name).symlink_to(file.absolute())
        except OSError:
            shutil.copy2(file, links / file.name)
