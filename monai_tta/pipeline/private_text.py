"""Messages for the record: what went wrong, without any path, and in an anonymous record without the image's name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from monai_tta.pipeline.case_file import ENDING, files_of
from monai_tta.pipeline.describe_error import LONGEST
from monai_tta.pipeline.find_images import ENDINGS
from monai_tta.pipeline.image_names import name_of

THE_IMAGE = "the image"
A_PATH = "PATH"
_MOST_FILES = 5000  # names of a series' files that are looked for
_REST = r"(?:[/\\][^\s'\",;:()]*)*"  # of a path, behind a folder that is known
_QUOTED = re.compile(r"(?<!\w)b?(['\"])(?:[A-Za-z]:)?[^'\"/\\]*[/\\][^'\"]*(?:\1|$)")
_ABSOLUTE = re.compile(r"(?<![\w.)\]])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\s'\",;:()]*[^\s'\",;:().]")


def without_paths(text: str, image: Path, folders: Iterable[Path] = (), *, anonymous: bool = False, name: str = "") -> str:
    """A message about an image without the paths in it.

    The image's path becomes its name, or "the image" in an anonymous record. Every other path becomes "PATH". The names of the
    files in a DICOM series are left out, too: PACS exports name them after patients.

    Args:
        text: the message, on one line.
        image: the file, or the folder of a DICOM series, that it is about.
        folders: further folders whose paths may stand in it.
        anonymous: whether the image's name is left out.
        name: what the image is called in its masks' names, where that is more than its file's name.
    """
    shown = THE_IMAGE if anonymous else image.name
    for spelled in _spellings([image]):
        text = re.sub(re.escape(spelled) + _REST, lambda _: shown, text)
        text = _without_cut_end(text, spelled, shown)
    for spelled in _spellings(folders):
        text = re.sub(re.escape(spelled) + _REST, A_PATH, text)
    for file in _files_of(image):
        text = re.sub(rf"(?<!\w){re.escape(file)}(?!\w)", "a file", text)
    text = _ABSOLUTE.sub(A_PATH, _QUOTED.sub(A_PATH, text))
    return _without_names(text, image, {name, name_of(image)}) if anonymous else text


def _spellings(paths: Iterable[Path]) -> list[str]:
    """Every way in which a message may spell these paths, the longest first."""
    found: set[str] = set()
    for path in paths:
        absolute = path.absolute()
        parts = absolute.parts
        own = {str(path), str(absolute), os.path.realpath(path), *(os.sep.join(parts[k:]) for k in range(1, len(parts) - 1))}
        for one in own:
            found |= {one, repr(one)[1:-1], repr(os.fsencode(one))[2:-1], " ".join(one.split()), one.replace("\\", "/")}
    return sorted((one for one in found if len(Path(one).parts) > 1), key=len, reverse=True)


def _without_cut_end(text: str, spelled: str, name: str) -> str:
    """A long message is cut, maybe within the path."""
    if len(text) < LONGEST or not os.path.isabs(spelled):
        return text
    start = text.rfind(spelled[: max(4, len(os.path.dirname(spelled)) // 2)])
    return text[:start] + name if start >= 0 and spelled.startswith(text[start:]) else text


def _files_of(image: Path) -> list[str]:
    """The names of the files of a DICOM series, or of a case of several files, that are long enough to tell anything."""
    try:
        if image.suffix == ENDING:
            names = [file.name for file in files_of(image)]
        else:
            names = [entry.name for entry in os.scandir(image)][:_MOST_FILES] if image.is_dir() else []
    except OSError:
        return []
    return sorted((name for name in names if len(name) > 2), key=len, reverse=True)


def _without_names(text: str, image: Path, names: Iterable[str]) -> str:
    """Without what the image is called, and without the names of its masks, which begin like it."""
    endings = "|".join(re.escape(ending) for ending in sorted(ENDINGS, key=len, reverse=True))
    ways = {way for name in names for way in (name, repr(name)[1:-1], " ".join(name.split()))}
    spelled = sorted(ways - {""}, key=len, reverse=True)
    for one in spelled:
        text = re.sub(rf"(?<!\w){re.escape(one)}[\w.-]*?(?:{endings})(?!\w)", THE_IMAGE, text, flags=re.IGNORECASE)
    for one in (image.name, *spelled):
        if len(one) > 1:  # a single letter tells nothing, and may be the word "a"
            text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", THE_IMAGE, text)
    return text
