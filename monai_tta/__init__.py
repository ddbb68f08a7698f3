"""Test-time adaptation for medical image segmentation, as an extension of MONAI."""

from monai_tta import methods
from monai_tta._version import __version__
from monai_tta.inferer import AdaptiveInferer
from monai_tta.methods import *  # noqa: F403

__all__ = ["__version__", "AdaptiveInferer"]
__all__ += methods.__all__
