"""How a network is calibrated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monai_tta.core.views import Views
from monai_tta.methods.careful import Careful
from monai_tta.methods.careful_candidates import UNADAPTED
from monai_tta.preparation.fit import FOLDS, check_enough_cases


@dataclass(frozen=True)
class CalibrationSettings:
    """How thoroughly a network is calibrated, and how much harm its gain predictor may do.

    Args:
        size: how many distorted images are made.
        budget: how many adaptation windows each of them has at most.
        harm: the largest share of distorted images that may lose more than a point of Dice. It is measured on images that were
            held out of the fit.
        seed: the same seed makes the same distorted images.
        method: whose candidates and views are used.
        quick: whether few candidates are tried in few views, then and whenever the gain predictor is used: a fifth of the time.
            For networks with running statistics.
        quality_only: whether nothing but the source is tried, for a quality predictor that says what its own answers are worth.
            There is then no gain predictor.

    Raises:
        ValueError: for a share outside of (0, 1), or one so small that ``size`` images cannot show it; for fewer distorted images
            than can be held out in turn, or a budget of less than one window; for ``quick`` and ``quality_only`` at once.
    """

    size: int = 160
    budget: int = 4
    harm: float = 0.03
    seed: int = 0
    method: Careful = Careful()
    quick: bool = False
    quality_only: bool = False

    @property
    def tried(self) -> Careful:
        """The method whose candidates are tried."""
        return self.source_alone if self.quality_only else self.method

    @property
    def source_alone(self) -> Careful:
        """The same that tries nothing but the source, in the same views."""
        return replace(self.method, candidates=(UNADAPTED,), views=self.views)

    @property
    def views(self) -> Views:
        """The views in which candidates answer."""
        return self.method.views_for(self.quick)

    def __post_init__(self) -> None:
        if not 0 < self.harm < 1:
            raise ValueError(f"harm is a share of cases, between 0 and 1, found {self.harm}")
        if self.quick and self.quality_only:
            raise ValueError("quick tries few candidates, and quality_only none; choose one of them")
        if not self.quality_only:
            check_enough_cases(self.size, self.harm)
        if self.size < FOLDS:
            raise ValueError(f"size is the number of distorted images, at least {FOLDS}, found {self.size}")
        if self.budget < 1:
            raise ValueError(f"budget is a number of windows, at least 1, found {self.budget}")
