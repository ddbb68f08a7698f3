"""Retouched: change how the image looks rather than the network."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.method import Still
from monai_tta.retouch import WAYS, retouched
from monai_tta.shadow import Shadow


class Retoucher(Shadow):
    """The source's shadow, which sees windows retouched."""

    def __init__(self, source: nn.Module, head: Any, way: str) -> None:
        super().__init__(source, head, None)
        self.way = way

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network answers to the retouched windows."""
        return super().outputs(retouched(windows, self.way))


@dataclass(frozen=True, kw_only=True)
class Retouched(Still):
    """Answer each window as it looks "sharper", "softer", "brighter" or "darker", as the source does.

    Adapting the image instead of the network, as the normalisation module of Karani et al. 2021 (arXiv 2004.04668) does by
    learning; here the changes are fixed and nothing is learnt: which of them helps, if any, is for `Careful` to judge.
    """

    way: str = "sharper"

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, found {self.way!r}")

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow that sees windows retouched."""
        return Retoucher(source, head, self.way)
