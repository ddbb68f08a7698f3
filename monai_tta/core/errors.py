"""The errors that mean: this network, or this image, keeps its unadapted answer."""

from __future__ import annotations

from pathlib import Path


class CannotAdapt(ValueError):
    """This network, or this image, cannot be adapted; the message says why and what to choose instead."""


def cannot_use(file: Path, error: Exception) -> CannotAdapt:
    """Why a file cannot be used, as a reason for records, which hold no paths.

    Args:
        file: as it was named.
        error: that reading it raised.
    """
    return CannotAdapt(str(error).replace(str(file), file.name))


class TooFewVoxels(ValueError):
    """A layer sees one value per channel, which has no variance, and there are no statistics of the source to use instead."""
