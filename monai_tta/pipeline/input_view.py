"""An image as it was loaded, as the network sees it, and the source's answer to it: what input checks look at."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor

from monai_tta.compute.containers import main_output
from monai_tta.core.objectives import Head
from monai_tta.pipeline.bundle import BundleError, SourceBundle
from monai_tta.pipeline.load_image import read_image
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.value_range import expected_range

_LOADS = ("Load", "EnsureChannelFirst", "AsChannelFirst", "AddChannel")


def loading_steps(preprocessing: Any) -> int:
    """How many of a bundle's first transforms load an image and put its channels first.

    Raises:
        BundleError: where the first transform does not load.
    """
    steps = list(getattr(preprocessing, "transforms", ()))
    count = 0
    while count < len(steps) and type(steps[count]).__name__.startswith(_LOADS):
        count += 1
    if not count or not type(steps[0]).__name__.startswith("Load"):
        first = type(steps[0]).__name__ if steps else type(preprocessing).__name__
        raise BundleError(
            f"the preprocessing begins with {first}: input checks need to see the image as a Load transform reads it"
        )
    return count


class InputView:
    """A bundle's images in three stages; a context manager, because transforms may write into a temporary folder.

    Args:
        bundle: the source.
    """

    def __init__(self, bundle: SourceBundle) -> None:
        self.bundle = bundle
        self._folder = TemporaryDirectory()
        preprocessing, postprocessing = bundle.transforms(Path(self._folder.name))
        count = loading_steps(preprocessing)
        self._load = Compose(list(preprocessing.transforms[:count]))
        self._expected = expected_range(getattr(bundle, "parser", None), preprocessing, bundle.network)
        self._prepare = Compose(list(preprocessing.transforms[count:]))
        self.head: Head | str = head_of(postprocessing)

    def __enter__(self) -> InputView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.cleanup()

    def loaded(self, image: Path) -> Tensor:
        """An image as its file says, ``(C, *spatial)``, in floating point, with meta data."""
        image = image.absolute()
        found: Tensor = read_image(image, self._load, self._expected).data["image"]
        return found

    def prepared(self, loaded: Tensor) -> Tensor:
        """A loaded image as the network sees it, ``(C, *spatial)``."""
        return self._prepare({"image": loaded.clone()})["image"]

    def answered(self, prepared: Tensor) -> tuple[Tensor, Head]:
        """The source's probabilities ``(K, *spatial)`` of a prepared image, and what its channels stand for."""
        with torch.no_grad():
            logits = main_output(self.bundle.inferer(prepared[None].to(self.bundle.device), self.bundle.network))
        plain = torch.as_tensor(logits)[0].float().cpu()
        head: Head = self.head if self.head in ("softmax", "sigmoid") else ("sigmoid" if len(plain) == 1 else "softmax")
        return (plain.softmax(0) if head == "softmax" else plain.sigmoid()), head
