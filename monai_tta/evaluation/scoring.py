"""How good an answer is, by MONAI's metrics: Dice, NSD, HD95 and ASSD of each structure, and what happens to empty masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric
from torch import Tensor

from monai_tta.core.geometry import voxel_spacing
from monai_tta.reporting.rows import METRICS, Score


def scores_of(
    data: dict[str, Any], metrics: Sequence[str] = METRICS, tolerance: float | Sequence[float] = 1.0
) -> tuple[Score, ...]:
    """Score each structure of a case after the bundle's postprocessing.

    One-hot channels begin with the background, which is left out. Distances are in the spacing of the label, else of the image:
    millimetres where its file says, else pixels.

    A structure that is not in the label has no score, whether it was found ("invented") or not ("absent"). One that is in the
    label and was not found ("missed") has Dice 0 and NSD 0, and no distances.

    Args:
        data: "pred" and "label", binary, ``(channels, *spatial)`` each; maybe "image".
        metrics: which of "dice", "nsd", "hd95", "assd" are computed; the others are NaN.
        tolerance: NSD counts a border as right up to this distance, in the unit of the spacing; one, or one for each structure.

    Raises:
        ValueError: for an answer and a label of different shapes, or tolerances of another number than structures.
    """
    pred = _plain_tensor(data["pred"])
    label = _plain_tensor(data["label"])
    if pred.shape != label.shape:
        raise ValueError(f"the answer is {tuple(pred.shape)} and the label {tuple(label.shape)} after the postprocessing")
    if is_one_hot(pred):
        pred, label = pred[1:], label[1:]
    dims = pred.ndim - 1
    spacing = voxel_spacing(data["label"], dims) or voxel_spacing(data.get("image"), dims) or (1.0,) * dims
    tolerances = [tolerance] * len(pred) if isinstance(tolerance, int | float) else list(tolerance)
    if len(tolerances) != len(pred):
        raise ValueError(f"there are {len(tolerances)} tolerances for {len(pred)} structures")
    return tuple(
        _score(p[None, None], t[None, None], metrics, up_to, spacing) for p, t, up_to in zip(pred, label, tolerances, strict=True)
    )


def is_one_hot(masks: Tensor) -> bool:
    """Whether binary channels ``(channels, *spatial)`` are classes that exclude each other, with the background first."""
    return len(masks) > 1 and bool((masks.sum(0) == 1).all())


def _score(pred: Tensor, label: Tensor, metrics: Sequence[str], tolerance: float, spacing: Sequence[float]) -> Score:
    """One structure, ``(1, 1, *spatial)`` each."""
    is_found = bool(pred.any())
    if not bool(label.any()):
        return Score(nan, reason="invented" if is_found else "absent")
    if not is_found:
        return Score(0.0, 0.0 if "nsd" in metrics else nan, reason="missed")
    sizes = [size or 1.0 for size in spacing]
    known: dict[str, Callable[[], Any]] = {
        "dice": lambda: DiceMetric(include_background=True)(pred, label),
        "nsd": lambda: SurfaceDiceMetric([tolerance], include_background=True)(pred, label, spacing=sizes),
        "hd95": lambda: HausdorffDistanceMetric(include_background=True, percentile=95)(pred, label, spacing=sizes),
        "assd": lambda: SurfaceDistanceMetric(include_background=True, symmetric=True)(pred, label, spacing=sizes),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)  # of MONAI 1.6's calls to itself
        values = {name: float(known[name]()) if name in metrics else nan for name in METRICS}
    return Score(values["dice"], values["nsd"], values["hd95"], values["assd"])


def _plain_tensor(value: Any) -> Tensor:
    """On the CPU, without meta data."""
    return torch.as_tensor(value.as_tensor() if isinstance(value, MetaTensor) else value).detach().cpu()
