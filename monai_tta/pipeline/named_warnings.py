"""Warnings that say which image they are about. Images are read in one thread and segmented in another, at the same time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_here = threading.local()


def working_on(image: Path) -> None:
    """Note that this thread works on an image from now on."""
    _here.image = image


@contextmanager
def warnings_with_names(tell: Callable[[str], None]) -> Iterator[None]:
    """A ``with`` block in which a warning is told on one line, once for each image, with the image's name in front.

    Which warnings are shown is up to Python's filters, as ever.

    Args:
        tell: what to do with the line.
    """
    told: set[str] = set()

    def show(message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        image = getattr(_here, "image", None)
        text = f"{'' if image is None else f'{image.name}: '}{category.__name__}: {' '.join(str(message).split())}"
        if text not in told:
            told.add(text)
            tell(text)

    _here.image = None
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
    _here.image = None
