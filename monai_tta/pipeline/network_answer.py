"""An answer on its way from the inferer to a bundle's postprocessing."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import decollate_batch


def of_first_image(answer: Any) -> Any:
    """The first image's part of a batch's answer, in the form in which MONAI's evaluators hand it to postprocessing."""
    return answer[0] if isinstance(answer, torch.Tensor) else decollate_batch({"pred": answer})[0]["pred"]


def check_no_nan(answer: Any) -> None:
    """Check an answer ``(K, *spatial)``, or each of several, for NaN, of which postprocessing would make a mostly empty mask.

    Raises:
        ValueError: when a voxel's answer is NaN.
    """
    if isinstance(answer, dict | list | tuple):
        for one in answer.values() if isinstance(answer, dict) else answer:
            check_no_nan(one)
    if isinstance(answer, torch.Tensor) and bool((is_nan := answer.isnan()).any()):
        share = float(is_nan.any(0).float().mean())
        raise ValueError(
            f"the network's answer is NaN in {share:.2%} of the image: the image holds NaN, infinity or numbers too large to "
            "normalise; replace them first"
        )
