"""For scripts that call MONAI's function `sliding_window_inference` and know no inferers, as some of Auto3DSeg's do."""

from __future__ import annotations

from typing import Any, Literal

from monai.inferers import sliding_window_inference
from torch import Tensor

from monai_tta.core.objectives import Head
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network import Network


class AdaptiveSlidingWindows:
    """Takes the place of `monai.inferers.sliding_window_inference`, has its arguments, and adapts the network to each image.

    Args:
        head: what the logits stand for, "softmax" or "sigmoid"; "auto": one channel is "sigmoid", more are "softmax".
        choices: other keyword-only arguments of `AdaptiveInferer`, such as ``method`` and ``records``.

    Its ``inferer`` is the `AdaptiveInferer` that answers, with the records of its ``cases``.

    Raises:
        ValueError: for choices that exclude each other.
    """

    def __init__(self, head: Head | Literal["auto"], **choices: Any) -> None:
        self.inferer = AdaptiveInferer(head=head, inferer=_in_windows, **choices)

    def __call__(self, inputs: Tensor, roi_size: Any, sw_batch_size: int, predictor: Network, *args: Any, **kwargs: Any) -> Any:
        """Answer a batch of images ``(N, C, *spatial)``; each image is a case of its own.

        Args:
            inputs: floating-point images.
            roi_size: the size of a window in voxels, one number or one for each axis.
            sw_batch_size: how many windows the network gets at once.
            predictor: the network, which never changes.
            args: further arguments of MONAI's function.
            kwargs: further arguments of MONAI's function.

        Returns:
            what MONAI's function would return for this network.
        """
        return self.inferer(inputs, predictor, roi_size, sw_batch_size, *args, **kwargs)


def _in_windows(inputs: Tensor, network: Network, roi_size: Any, sw_batch_size: int, *args: Any, **kwargs: Any) -> Any:
    """MONAI's function, with its arguments in the order of an inferer."""
    return sliding_window_inference(inputs, roi_size, sw_batch_size, network, *args, **kwargs)
