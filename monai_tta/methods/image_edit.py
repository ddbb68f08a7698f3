"""Edit the image instead of the network: sharper, softer, brighter or darker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.core.image_edits import EDITS, edit_image
from monai_tta.core.no_learning import NoLearning
from monai_tta.core.objectives import Head
from monai_tta.core.shadow import Shadow


class EditedShadow(Shadow):
    """A shadow of the source that sees edited windows."""

    def __init__(self, source: nn.Module, head: Head, edit: str) -> None:
        super().__init__(source, head, None)
        self.edit = edit

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network returns for the edited windows."""
        return super().outputs(edit_image(windows, self.edit))


@dataclass(frozen=True, kw_only=True)
class ImageEdit(NoLearning):
    """Show the source network each window "sharper", "softer", "brighter" or "darker"; learn nothing.

    Karani et al. 2021 (arXiv 2004.04668) adapt the image by a normalisation module that learns. Here the edits are fixed.
    Which of them helps, if any, is for `Careful` to decide. It costs a filter over each window, keeps nothing, and needs
    nothing from the source.

    Args:
        edit: "sharper", "softer", "brighter" or "darker".
    """

    edit: str = "sharper"

    def __post_init__(self) -> None:
        if self.edit not in EDITS:
            raise ValueError(f"edit must be one of {', '.join(EDITS)}, found {self.edit!r}")

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Which edit it makes."""
        return {self.edit: 1.0}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow that sees edited windows."""
        return EditedShadow(source, head, self.edit)
