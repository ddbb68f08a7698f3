"""How an inferer adapts: the choices of `AdaptiveInferer`, validated once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from monai_tta.compute.containers import Name
from monai_tta.compute.precision import Precision
from monai_tta.core.answer_form import AnswersAre
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.objectives import Head
from monai_tta.core.views import Views
from monai_tta.guards.base import Guard, as_guard
from monai_tta.guards.collapse import Collapse
from monai_tta.quality.quality_predictor import QualityPredictor

GuardLike = Guard | Callable[[Tensor, Tensor, str], str | None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of `monai_tta.AdaptiveInferer`, which documents them.

    Raises:
        ValueError: for a value that there is not, or choices that exclude each other.
    """

    method: AdaptationMethod
    head: Head | Literal["auto"] = "auto"
    learn: Literal["window", "volume"] = "volume"
    reset: Literal["window", "volume", "never"] = "volume"
    budget: int | Literal["auto"] | None = "auto"
    collapse: Collapse | None = Collapse()
    guard: GuardLike | None = None
    seed: int = 0
    precision: Precision = "exact"
    recompute: bool = False
    together: bool = False
    main_output: Name | None = None
    main_only: bool = False
    answers: AnswersAre = "auto"
    quality: QualityPredictor | None = None
    uncertainty: Views | None = None

    def __post_init__(self) -> None:
        self._check_values()
        self._check_combinations()

    @property
    def n_adaptation_windows(self) -> int | None:
        """How many windows of a volume the method adapts on; None for all."""
        return self.method.default_budget if self.budget == "auto" else self.budget

    @property
    def continual(self) -> bool:
        """Whether what is learnt from one case is carried to the next."""
        return self.reset == "never"

    def _check_values(self) -> None:
        for name, value, allowed in (
            ("head", self.head, ("softmax", "sigmoid", "auto")),
            ("learn", self.learn, ("window", "volume")),
            ("reset", self.reset, ("window", "volume", "never")),
            ("precision", self.precision, ("exact", "fast")),
            ("answers", self.answers, ("auto", "logits", "probabilities")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, found {value!r}")
        if not isinstance(self.method, AdaptationMethod):
            raise ValueError(f"method must be a monai_tta method (AdaptationMethod), found {self.method!r}")
        if not (self.budget in ("auto", None) or (isinstance(self.budget, int) and self.budget >= 1)):
            raise ValueError(f"budget is a number of windows, at least 1, None for all, or 'auto'; found {self.budget!r}")
        if not isinstance(self.main_output, str | int | None) or isinstance(self.main_output, bool):
            raise ValueError(f"main_output is a name or a number, or None, found {self.main_output!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed is a whole number, found {self.seed!r}")
        if self.guard is not None:
            as_guard(self.guard)
        if not isinstance(self.uncertainty, Views | None):
            raise ValueError(f"uncertainty is a Views or None, found {self.uncertainty!r}")
        if not isinstance(self.collapse, Collapse | None):
            raise ValueError(f"collapse is a monai_tta.guards.Collapse or None, found {self.collapse!r}")

    def _check_combinations(self) -> None:
        if self.learn == "volume" and self.reset == "window":
            raise ValueError("learn='volume' learns once for all windows, so reset='window' has no meaning; use learn='window'")
        if self.together and (self.learn, self.reset) != ("volume", "never"):
            raise ValueError("together=True is one continual stream in several processes; it needs learn='volume', reset='never'")
        if self.uncertainty is not None and self.learn == "window":
            raise ValueError(
                "a map of uncertainty compares the answers of one network, and with learn='window' each window is answered by a "
                "network of its own; use learn='volume'"
            )
        if self.learn == "window" and self.method.pools_statistics:
            raise ValueError("statistics='volume' pools over a volume's adaptation windows; use learn='volume'")
