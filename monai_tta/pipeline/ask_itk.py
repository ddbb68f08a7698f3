"""Questions to ITK whose answer may be that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK as sitk


def ask_itk(question: Callable[[], Any]) -> Any:
    """What ITK answers; None where it cannot. Its warnings are silenced: they are about files that another reader may know."""
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return question()
    except (RuntimeError, UnicodeError):
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def is_text(path: Path) -> bool:
    """Whether a path is valid text. SimpleITK ends the whole process where it is not."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def itk_header(file: Path, kind: str = "") -> Any:
    """SimpleITK's reader with a file's header read, and no voxels; None where it cannot read it.

    Args:
        file: the file.
        kind: the name of ITK's reader of one kind of file, such as "GDCMImageIO"; "" for any.
    """
    if not is_text(file):
        return None
    reader = sitk.ImageFileReader()
    if kind:
        reader.SetImageIO(kind)
    reader.SetFileName(str(file))

    def read() -> bool:
        reader.ReadImageInformation()
        return True

    return reader if ask_itk(read) else None
