"""A diary: the windows that a method adapted on, kept on disk until a night has learnt from them. They are patient data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from monai_tta.compute.tensor_files import load_tensors, save_tensors

__all__ = ["Diary", "DiaryError"]

_FORMAT = 1
_EVERY = 5  # of so many images, one is held back


class DiaryError(ValueError):
    """A folder that is no diary, or an entry that cannot be read."""


@dataclass(frozen=True)
class Diary:
    """A folder with one file for each image. Nobody but its owner may read it. No name and no path of an image is kept.

    Args:
        folder: where. It is made with the first entry.
        size: the most images to keep, 1 or more; the oldest goes first.

    Raises:
        DiaryError: for a size below 1.
    """

    folder: Path
    size: int = 100

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DiaryError(f"a diary keeps at least one image, found size={self.size}")

    def entries(self) -> list[Path]:
        """The files, the oldest first."""
        return sorted(self.folder.glob("image-*.pt"))

    def add(self, windows: Tensor) -> None:
        """Keep the windows ``(N, C, *spatial)`` of one image, and drop the oldest image where there are too many.

        Args:
            windows: what the method adapted on.

        Raises:
            OSError: when they cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self.entries()
        number = int(known[-1].stem.removeprefix("image-")) + 1 if known else 1
        content = {"format": _FORMAT, "windows": windows.detach().cpu().clone()}
        save_tensors(content, self.folder / f"image-{number:06d}.pt", mode=0o600)
        for old in known[: max(0, len(known) + 1 - self.size)]:
            old.unlink(missing_ok=True)

    def read(self, file: Path) -> Tensor:
        """The windows ``(N, C, *spatial)`` of one image. Nothing in the file is executed.

        Args:
            file: one of `entries`.

        Raises:
            DiaryError: for a file that is no entry.
        """
        try:
            content = load_tensors(file)
        except ValueError as error:
            raise DiaryError(f"no entry of a diary: {error}") from error
        windows = content.get("windows") if isinstance(content, dict) and content.get("format") == _FORMAT else None
        if not isinstance(windows, Tensor) or windows.ndim < 4 or not bool(windows.isfinite().all()):
            raise DiaryError(f"{file} is no entry of a diary of this version")
        return windows

    def to_learn_from(self) -> list[Path]:
        """The entries that a night learns from: four of five."""
        return [file for k, file in enumerate(self.entries()) if k % _EVERY != _EVERY - 1]

    def held_back(self) -> list[Path]:
        """The entries on which a guard checks what a night has learnt: every fifth."""
        return self.entries()[_EVERY - 1 :: _EVERY]

    def burn(self) -> None:
        """Delete all entries, and the folder where nothing else is in it."""
        for file in [*self.entries(), *self.folder.glob(".image-*.partial")]:
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
