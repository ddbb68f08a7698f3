"""Files of arrays and a description in JSON (.npz): written whole or not at all, and read without executing anything in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

_Content = TypeVar("_Content")


def save_numbers(path: Path, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and a description, to a temporary name first and then in one move.

    Args:
        path: the file; one that is there is replaced.
        description: what JSON can hold, with the number of the "format".
        arrays: numpy arrays by name.
    """
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            np.savez_compressed(file, **{**arrays, "description": text})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_numbers(path: Path, expected_format: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_numbers` wrote.

    Returns:
        the description, and the arrays by name.

    Raises:
        Exception: of many kinds, for a file that is none of these; a ValueError for one of another format.
    """
    with np.load(path, allow_pickle=False) as content:
        description = json.loads(content["description"].tobytes().decode())
        if description["format"] != expected_format:
            raise ValueError(f"format {description['format']}, this version reads {expected_format}: make it again")
        return description, {name: content[name] for name in content.files if name != "description"}


def read_once(load: Callable[[Path], _Content], path: Path) -> _Content:
    """What ``load`` makes of a file, which is read once for as long as it stays as it is."""
    content: _Content = _read(load, path, path.stat().st_mtime_ns if path.is_file() else 0)
    return content


@lru_cache(maxsize=16)
def _read(load: Callable[[Path], Any], path: Path, when: int) -> Any:
    return load(path)


def beside_checkpoint(weights: Path, name: str, ending: str = ".npz") -> Path:
    """Where a file that belongs to a checkpoint is kept: beside its file of weights.

    >>> weights = Path("models/model_instance.pt")
    >>> beside_checkpoint(Path("models/model.pt"), "rehearsal").name, beside_checkpoint(weights, "rehearsal").name
    ('rehearsal.npz', 'rehearsal_model_instance.npz')
    """
    return weights.with_name(f"{name}{ending}" if weights.stem == "model" else f"{name}_{weights.stem}{ending}")
