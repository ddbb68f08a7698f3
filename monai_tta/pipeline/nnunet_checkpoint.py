"""Read a checkpoint of nnU-Net v2, of which nothing is executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import NumpyVersion

from monai_tta.pipeline.bundle_config import BundleError
from monai_tta.pipeline.checkpoint import check_unpacked_size

MIRRORS = "inference_allowed_mirroring_axes"
_KEYS = ("network_weights", "trainer_name", "init_args")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint's content, read with ``weights_only=True``.

    nnU-Net's logs and its best score are numpy's scalars, which torch refuses unless their classes are named.

    Args:
        file: the checkpoint.

    Raises:
        BundleError: for a file that holds anything but numbers, or is no checkpoint of nnU-Net v2.
    """
    check_unpacked_size(file)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds
        raise BundleError(f"{file} cannot be read as weights only ({_why_refused(str(error))})") from error
    if missing := [key for key in _KEYS if not isinstance(content, dict) or key not in content]:
        raise BundleError(f"{file} is no checkpoint of nnU-Net v2: it lacks {', '.join(missing)}")
    if not isinstance(content["init_args"], dict) or "configuration" not in content["init_args"]:
        raise BundleError(f"{file} is no checkpoint of nnU-Net v2: it does not say for which configuration it was trained")
    axes = content.get(MIRRORS)
    if axes is not None and not (isinstance(axes, list | tuple) and axes and all(axis in (0, 1, 2) for axis in axes)):
        raise BundleError(f"{file} says to mirror along {axes!r}, which are no axes of an image")
    return content


def _why_refused(error: str) -> str:
    """In words, from torch's error: what the file holds that is not let in, where torch says it."""
    if unknown := re.search(r"GLOBAL (\S+)", error):
        return f"it holds {unknown[1]}, which is no number"
    if dtype := re.search(r"but got <class '(numpy\.[^']+)'>", error):
        return f"it holds a scalar of {dtype[1]}; of numpy's scalars only those of float32 and float64 are let in"
    return "damaged, or a pickle of something else"


def _numpy_scalars() -> list[Any]:
    """What a pickled numpy scalar of floating point is made of, under the names of numpy 1 and 2."""
    core = np._core if NumpyVersion(np.__version__) >= "2.0.0" else np.core  # type: ignore[attr-defined]
    scalar = core.multiarray.scalar
    names = [(scalar, f"numpy.{name}.multiarray.scalar") for name in ("core", "_core")]
    return [*names, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
