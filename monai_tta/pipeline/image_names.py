"""One name for each image: unique before anything is computed, the same in its mask, its record and every message."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from monai_tta.pipeline.find_images import ENDINGS, FoundImages, search_images

_LONGEST = 200  # bytes of a name that is put together; the postfix and the ending of a mask must have room in 255
_OTHER_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")  # unlike the last number of a UID


def named_images(paths: Iterable[Path], out: Path) -> FoundImages:
    """Find the images among files and folders, and name them: see `search_images` and `image_names`."""
    found = search_images(paths, out)
    found.names = image_names(found.images, found.roots, out)
    return found


def image_names(images: Sequence[Path], roots: Sequence[Path], out: Path) -> list[str]:
    """A name for each image, of which no two are the same.

    It is the path below the folder that was given, its parts joined by "_", without the ending of a file: "scan" for scan.nii.gz,
    "p1_ct" for p1/ct.nii.gz, and the whole name of the folder of a series, dots and all. Only where two would be the same, they
    get more: the ending (a.png and a.jpg become "a_png" and "a_jpg"), or the names of folders above the one that was given, or
    both, or else a number.

    Args:
        images: files, and folders of series.
        roots: for each, the folder that was given, or the one in which it lies.
        out: the folder for masks. Where it does not tell "A" from "a", names that differ by nothing else are the same.
    """
    key = _key(ignores_case(out))
    parts = [_parts(image, root) for image, root in zip(images, roots, strict=True)]
    names = [_join(part) for part in parts]
    for make in _MORE:
        shared = _shared(names, key)
        if not shared:
            return names
        longer = {number: make(images[number], roots[number], parts[number]) for number in shared}
        tried = [longer.get(number, name) for number, name in enumerate(names)]
        still = set(_shared(tried, key))
        names = [name if number in still else tried[number] for number, name in enumerate(names)]
    return numbered(names, key)


def name_of(image: Path) -> str:
    """The name of an image by itself: of a folder all of it, of a file without its ending."""
    name = image.name
    if image.is_dir():
        return name
    low = name.lower()
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if low.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    base = name[:-3] if low.endswith(".gz") else name
    return _OTHER_ENDING.sub("", base) or name


def in_this_locale(name: str) -> str:
    """The name of a file, written by a process of another locale, as this process's own calls take it.

    Args:
        name: with characters, or with bytes that were none where it was written.
    """
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def ignores_case(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that exists, takes "A" and "a" for the same name."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    swapped = place.with_name(place.name.swapcase()) if place.name else place
    try:
        return swapped != place and swapped.exists() and swapped.samefile(place)
    except OSError:
        return False


def _parts(image: Path, root: Path) -> tuple[str, ...]:
    try:
        below = image.relative_to(root).parts
    except ValueError:
        below = ()
    return (*below[:-1], name_of(image))


def _join(parts: Iterable[str]) -> str:
    """Parts joined by "_"; the first ones are left out where the name would be too long for a file."""
    chosen = list(parts)
    while len(chosen) > 1 and len("_".join(chosen).encode("utf-8", "surrogateescape")) > _LONGEST:
        chosen = chosen[1:]
    return "_".join(chosen)


def _ending(image: Path) -> str:
    """What a file's name has besides `name_of`, without dots: "png", "nii"."""
    return image.name[len(name_of(image)) :].strip(".").split(".")[0]


def _with_ending(image: Path, root: Path, parts: tuple[str, ...]) -> str:
    return _join([*parts, *filter(None, [_ending(image)])])


def _with_folders(count: int, ending: bool = False) -> Callable[[Path, Path, tuple[str, ...]], str]:
    def make(image: Path, root: Path, parts: tuple[str, ...]) -> str:
        place = root.absolute() if root != image else image.absolute().parent
        above = [part for part in place.parts if part != place.anchor][-count:]
        return _join([*above, *parts, *([_ending(image)] if ending and _ending(image) else [])])

    return make


_MORE = (_with_ending, *(_with_folders(count) for count in (1, 2, 3)), *(_with_folders(count, True) for count in (1, 2, 3)))


def _key(is_case_ignored: bool) -> Callable[[str], str]:
    """What a file system tells names apart by. Some take an accent and its two characters for the same."""

    def key(name: str) -> str:
        name = unicodedata.normalize("NFC", name)
        return name.casefold() if is_case_ignored else name

    return key


def _shared(names: Sequence[str], key: Callable[[str], str]) -> list[int]:
    """Numbers of the names that are not unique."""
    counts = Counter(map(key, names))
    return [number for number, name in enumerate(names) if counts[key(name)] > 1]


def numbered(names: Sequence[str], key: Callable[[str], str] = str) -> list[str]:
    """Names with "_2" and so on where they are not unique, also not like a name that was there before.

    Args:
        names: as they are.
        key: what names are told apart by.
    """
    shared = set(_shared(names, key))
    taken = {key(name) for number, name in enumerate(names) if number not in shared}
    found = []
    for number, name in enumerate(names):
        count = 1
        unique = name
        while number in shared and key(unique) in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(key(unique))
        found.append(unique)
    return found
