"""What is measured on the source's undistorted images, before any trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monai_tta.core.objectives import Head
from monai_tta.core.source_look import SourceLook
from monai_tta.core.views import Views
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.labelled_images import UsableImage
from monai_tta.preparation.source_views import measured_views
from monai_tta.preparation.window_pairs import look_of_images


@dataclass(frozen=True)
class SourceFigures:
    """Figures of the source's images and of the network on them.

    Args:
        look: of the images; None where no window of any can be adapted on.
        views: in which candidates answer.
        agreement: in words, how far each view agrees with the plain answer; empty where the views were known.
        images: how many of them can be calibrated on.
    """

    look: SourceLook | None
    views: Views
    agreement: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold them."""
        return {**asdict(self), "look": None if self.look is None else self.look.to_dict()}

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> SourceFigures:
        """Read `to_dict` back.

        Args:
            said: what `to_dict` returned, maybe through JSON.
        """
        look = None if said["look"] is None else SourceLook.from_dict(said["look"])
        return cls(look, Views.from_dict(said["views"]), said["agreement"], int(said["images"]))


def measure_source(
    settings: CalibrationSettings, images: Sequence[UsableImage], inferer: Callable[..., Any], head: Head
) -> SourceFigures:
    """Measure what a calibration needs to know of the source's images.

    Args:
        settings: of the calibration.
        images: undistorted.
        inferer: cuts images into windows.
        head: what logits stand for.
    """
    look = look_of_images(inferer, images, head, settings.budget)
    return SourceFigures(look, *measured_views(settings, images, inferer, head), images=len(images))
