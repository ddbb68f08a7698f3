"""Files of tensors and plain numbers: written whole or not at all, and read without executing anything in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save_tensors(content: Any, path: Path, mode: int = 0o666) -> None:
    """Write tensors, numbers, texts, and lists and dictionaries of them, in one move.

    Args:
        content: what to write.
        path: where; a file there is replaced.
        mode: who may read and write the file, less the process's own mask.

    Raises:
        OSError: when it cannot be written; nothing is left of it then.
    """
    aside = path.with_name(f".{path.name}.partial")
    aside.unlink(missing_ok=True)  # a link there would lead the content elsewhere
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_tensors(path: Path) -> Any:
    """Read what `save_tensors` wrote, on the CPU.

    Raises:
        ValueError: for a file that cannot be read, or that holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is in the file
        raise ValueError(f"{path} cannot be read as tensors: {type(error).__name__}: {error}") from error
