"""What the answers of one case are expected to be worth: computed after the answer, which it never changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import Precision, without_weight_cache
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.normalization import TooFewVoxels
from monai_tta.core.record import StructureQuality
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.inference.adapter import NOTHING_USABLE
from monai_tta.inference.first_pass import WindowScan, scan_windows
from monai_tta.inference.request import Request
from monai_tta.inference.settings import Settings
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.quality_predictor import QualityPredictor
from monai_tta.quality.structure_features import own_figures, structure_table

_log = logging.getLogger(__name__)
ANOTHER_NETWORK = "the quality predictor was fitted to another network or other weights; calibrate again"
BY_WINDOW = "with learn='window' each window is answered by a network of its own, so nothing is said of the adapted answer"
UNADAPTED_ALONE = "the quality predictor was fitted to unadapted answers alone, so nothing is said of the adapted answer"

Qualities = tuple[StructureQuality, ...]


@dataclass(frozen=True)
class CaseQuality:
    """What the answers of a case are expected to be worth.

    Args:
        of_answer: the answer that is given; None where nothing is known.
        of_unadapted: the unadapted answer, where another one is given; else None.
        note: why something is not known; None where everything is, or nothing was asked.
    """

    of_answer: Qualities | None = None
    of_unadapted: Qualities | None = None
    note: str | None = None


NOTHING_KNOWN = CaseQuality()


def quality_of(
    request: Request, settings: Settings, precision: Precision, adapted: Shadow | None, windows: Tensor | None
) -> CaseQuality:
    """Predict the worth of a case's answers; whatever goes wrong is said in the note, because the answer itself is there.

    Args:
        request: the image.
        settings: how it was adapted; without a quality predictor nothing is known.
        precision: in which the shadow computes.
        adapted: the shadow whose answer is given; None where that is the source's.
        windows: the adaptation windows, if they were learnt from at once.
    """
    if settings.quality is None:
        return NOTHING_KNOWN
    try:
        with torch.inference_mode(False), torch.no_grad(), without_weight_cache(request.image.device):
            return _CaseFigures(request, settings, precision, settings.quality).predict(adapted, windows)
    except Exception as failure:  # the answer is there, and is worth having without this
        _log.debug("the quality could not be predicted", exc_info=failure)
        kept = isinstance(failure, CannotAdapt | PredictorError)  # others may name files
        return CaseQuality(note=str(failure) if kept else f"predicting the quality failed with {type(failure).__name__}")


class _CaseFigures:
    """The figures of one case from which its quality is predicted."""

    def __init__(self, request: Request, settings: Settings, precision: Precision, predictor: QualityPredictor) -> None:
        self.request = request
        self.settings = settings
        self.precision = precision
        self.predictor = predictor

    def predict(self, adapted: Shadow | None, windows: Tensor | None) -> CaseQuality:
        """The quality of the answers.

        Raises:
            CannotAdapt: where no window can be looked at, or the predictor was fitted to another network.
        """
        source = self.request.source
        if source is None:
            raise CannotAdapt("the network's layers cannot be seen")
        if not self.predictor.fits(source):
            raise CannotAdapt(ANOTHER_NETWORK)
        selector = WindowSelector(self.predictor.budget)
        scan = scan_windows(self.request, self.settings.head, self.precision, selector.offer)
        if windows is None or self.settings.n_adaptation_windows != self.predictor.budget:
            windows = _joined(scan.choose(selector), source)
        unadapted = self._source_shadow(source, scan)
        answer, of_views = _in_views(unadapted, windows, self.predictor)
        try:
            distances: Sequence[float] = unadapted.distances(windows)
        except TooFewVoxels:
            distances = ()

        def of(p: Tensor, in_views: list[Tensor], is_adapted: bool) -> Qualities:
            (own,) = own_figures((p,), in_views, unadapted.head)
            return self.predictor.predict(structure_table(own, p, answer, unadapted.head, distances).numpy(), is_adapted)

        of_source = of(answer, of_views, False)
        if adapted is None:
            return CaseQuality(of_source)
        if self.settings.learn == "window":
            return CaseQuality(None, of_source, BY_WINDOW)
        if not self.predictor.adapted:
            return CaseQuality(None, of_source, UNADAPTED_ALONE)
        adapted.extra = scan.extra
        with torch.autocast(windows.device.type, enabled=False):
            ours = self.settings.method.answer_in_views(adapted, windows, self.predictor.views)
        return CaseQuality(of(*ours, True), of_source)

    def _source_shadow(self, source: nn.Module, scan: WindowScan) -> Shadow:
        """A copy of the source that runs as the case did."""
        shadow = Shadow(source, scan.resolved_head, None)
        shadow.extra = scan.extra
        shadow.precision = self.precision
        shadow.reader = self.request.reader
        return shadow


def _in_views(shadow: Shadow, windows: Tensor, predictor: QualityPredictor) -> tuple[Tensor, list[Tensor]]:
    """A network's answer to windows, and its answers in views."""
    with torch.autocast(windows.device.type, enabled=False):
        of_views = answers_of_views(shadow, windows, predictor.views)
    return of_views[0], of_views


def _joined(windows: Sequence[Tensor], source: nn.Module) -> Tensor:
    """Windows as one tensor, where and as wide as the weights are.

    Raises:
        CannotAdapt: where there is none, or they differ in size.
    """
    if not windows:
        raise CannotAdapt(NOTHING_USABLE)
    if len({window.shape for window in windows}) > 1:
        raise CannotAdapt("the inferer asks about windows of several sizes, which cannot be compared at once")
    weights = next((p for p in source.parameters() if p.is_floating_point()), windows[0])
    return torch.cat(list(windows)).to(device=weights.device, dtype=weights.dtype)
