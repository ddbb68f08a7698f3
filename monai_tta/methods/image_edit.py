"""Retouched: change how the image looks rather than the network."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.core.image_edits import EDITS, edit_image
from monai_tta.core.method import NoLearning
from monai_tta.core.shadow import Shadow


class EditedShadow(Shadow):
    """The source's shadow, which sees windows retouched."""

    def __init__(self, source: nn.Module, head: Any, way: str) -> None:
        super().__init__(source, head, None)
        self.way = way

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network answers to the retouched windows."""
        return super().outputs(edit_image(windows, self.way))


@dataclass(frozen=True, kw_only=True)
class ImageEdit(NoLearning):
    """Answer each window as it looks "sharper", "softer", "brighter" or "darker", as the source does.

    Adapting the image instead of the network, as the normalisation module of Karani et al. 2021 (arXiv 2004.04668) does by
    learning; here the changes are fixed and nothing is learnt: which of them helps, if any, is for `Careful` to judge.
    """

    way: str = "sharper"

    def __post_init__(self) -> None:
        if self.way not in EDITS:
            raise ValueError(f"way must be one of {', '.join(EDITS)}, found {self.way!r}")

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow that sees windows retouched."""
        return EditedShadow(source, head, self.way)
