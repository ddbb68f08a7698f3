"""What adapting did, for MONAI's and Ignite's engines: as metrics of the engine, and case by case for any logger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from ignite.engine import Engine, Events

from monai_tta.core.record import Case
from monai_tta.inference.inferer import AdaptiveInferer

LogCase = Callable[[Mapping[str, float], int], Any]


class AdaptationStatsHandler:
    """Puts what adapting did into an engine's metrics, where MONAI's handlers for screens, TensorBoard and MLflow find it.

    At the end of an epoch ``engine.state.metrics`` gets the means over its cases, under ``PREFIX/NAME``, the names being those of
    `case_figures`, and ``PREFIX/cases``, their number. Put this handler before those that log metrics, such as
    `monai.handlers.StatsHandler`, `TensorBoardStatsHandler` and `MLFlowHandler`: engines call handlers in their order.

    Args:
        inferer: the one that the engine answers with.
        log_case: called after each iteration for each of its cases with its figures, under the same names, and its number among
            the inferer's cases, from 0. None to log no single cases. Figures hold no names, paths or pixels.
        prefix: what the names begin with.

    Its functions take the ``engine`` that calls them.

    Raises:
        TypeError: when ``inferer`` is another kind of inferer, which keeps no records.
    """

    def __init__(self, inferer: AdaptiveInferer, log_case: LogCase | None = None, prefix: str = "adaptation") -> None:
        if not isinstance(inferer, AdaptiveInferer):
            raise TypeError(f"only an AdaptiveInferer keeps records of adapting, found a {type(inferer).__name__}")
        self.inferer = inferer
        self.log_case = log_case
        self.prefix = prefix
        self._figures: list[dict[str, float]] = []
        self._next = 0

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as MONAI's evaluators and trainers do with their handlers."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.put_into_metrics)

    def start_epoch(self, engine: Engine) -> None:
        """Forget the cases of the epoch before."""
        self._figures = []
        self._next = self.inferer.cases[-1].number + 1 if self.inferer.cases else 0

    def collect(self, engine: Engine) -> None:
        """Take the figures of the cases that were answered since the last call."""
        for case in [case for case in self.inferer.cases if case.number >= self._next]:
            figures = {f"{self.prefix}/{name}": value for name, value in case_figures(case).items()}
            self._figures.append(figures)
            self._next = case.number + 1
            if self.log_case is not None:
                self.log_case(figures, case.number)

    def put_into_metrics(self, engine: Engine) -> None:
        """Put the means of the epoch's cases into the engine's metrics.

        Raises:
            RuntimeError: when the engine answered without this inferer.
        """
        if not self._figures:
            raise RuntimeError("the inferer of this AdaptationStatsHandler answered no case: give the same one to the engine")
        names = dict.fromkeys(name for figures in self._figures for name in figures)
        means = {name: fmean(figures[name] for figures in self._figures if name in figures) for name in names}
        engine.state.metrics.update({**means, f"{self.prefix}/cases": float(len(self._figures))})


def case_figures(case: Case) -> dict[str, float]:
    """The figures of a case's record. What a case does not have is left out, never zero.

    Args:
        case: the record.

    Returns:
        ``adapted`` (1 or 0), ``restarted`` (1 or 0), ``windows`` (that were adapted on), ``weight_distance``, ``seconds``;
        ``changed_fraction`` in [0, 1] where a guard compared; of a case with steps ``steps``, ``lr`` (the mean), ``cosine`` (the
        mean) and ``loss/NAME`` (of the last step); with a quality predictor ``expected_dice`` and ``expected_dice_low`` of the
        structure that is expected to be worst.
    """
    figures = {
        "adapted": float(case.adapted),
        "restarted": float(case.restarted is not None),
        "windows": float(case.n_windows),
        "weight_distance": case.weight_distance,
        "seconds": case.seconds,
    }
    if case.changed_fraction is not None:
        figures["changed_fraction"] = case.changed_fraction
    if case.steps:
        figures |= {"steps": float(len(case.steps)), "lr": fmean(step.lr for step in case.steps)}
        cosines = [step.cosine for step in case.steps if step.cosine is not None]
        figures |= {"cosine": fmean(cosines)} if cosines else {}
        figures |= {f"loss/{name}": value for name, value in case.steps[-1].losses.items()}
    if case.quality:
        worst = min(case.quality, key=lambda structure: structure.dice)
        figures |= {"expected_dice": worst.dice, "expected_dice_low": worst.low}
    return figures
