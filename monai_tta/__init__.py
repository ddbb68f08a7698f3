"""Test-time adaptation for medical image segmentation, as an extension of MONAI."""

from monai_tta._version import __version__
from monai_tta.inferer import AdaptiveInferer
from monai_tta.methods import Consistency, GraTa, Source, Statistics, Tent, ViewAverage

__all__ = ["__version__", "AdaptiveInferer", "Consistency", "GraTa", "Source", "Statistics", "Tent", "ViewAverage"]
