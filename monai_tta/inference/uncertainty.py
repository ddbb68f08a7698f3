"""The map of a case's uncertainty: computed after the answer, which it never changes, and put together as the answer is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import Tensor

from monai_tta.compute.precision import without_weight_cache
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import Head
from monai_tta.core.record import Uncertainty
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import single_answers_of
from monai_tta.core.uncertainty import largest_information, mutual_information
from monai_tta.core.views import Views
from monai_tta.core.window_inputs import refuse_views_of_window_inputs
from monai_tta.inference.first_pass import detached_copy
from monai_tta.inference.prompt_arguments import without_idle_places
from monai_tta.inference.request import Request
from monai_tta.inference.settings import Settings

_log = logging.getLogger(__name__)
# These make a mean of the answers and nothing else, so that they put a map together as they do an answer.
_AVERAGING = (SimpleInferer, SliceInferer, SlidingWindowInferer, SlidingWindowInfererAdapt)


@dataclass(frozen=True, eq=False)
class CaseUncertainty:
    """The uncertainty of the answer that a case got.

    Args:
        map: mutual information in nats ``(1, *spatial)``, float32; None where there is none.
        facts: what the map is like; None where there is none.
        note: why there is none; None where there is one, or nobody asked.
    """

    map: Tensor | None = None
    facts: Uncertainty | None = None
    note: str | None = None


NO_MAP = CaseUncertainty()


def can_make_maps(inner: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """An inner inferer that can put a map of uncertainty together; None for sliding windows of our own.

    Args:
        inner: the inner inferer.

    Raises:
        ValueError: for one that may make of answers something else than their mean.
    """
    if inner is not None and type(inner) not in _AVERAGING:
        known = ", ".join(kind.__name__ for kind in _AVERAGING)
        raise ValueError(
            f"{type(inner).__name__} may do more with answers than average them where windows overlap, which would spoil a map "
            f"of uncertainty; use one of MONAI's {known}, or no map"
        )
    return inner


def uncertainty_of(
    request: Request, settings: Settings, adapted: Shadow | None, head: Head | Literal["auto"], answer: Any
) -> CaseUncertainty:
    """How much the answers behind a case's answer disagree; what goes wrong is said in the note, because the answer is there.

    The inner inferer cuts the image once more. Each window gets the mutual information of the single answers to it, and where
    windows overlap the map is their mean, weighted as the answer is.

    Args:
        request: the image.
        settings: how it was adapted; without ``uncertainty`` there is no map.
        adapted: the shadow whose answer is given; None where that is the source's.
        head: what the answer's channels stand for.
        answer: of the whole image, as a user gets it; the map must be on its grid.
    """
    views = settings.uncertainty
    if views is None:
        return NO_MAP
    try:
        return _UncertaintyPass(request, settings, views, adapted, head).map_of_image(answer)
    except Exception as failure:  # the answer is there, and is worth having without this
        _log.debug("the uncertainty could not be computed", exc_info=failure)
        words = str(failure) if isinstance(failure, CannotAdapt) else f"computing it failed with {type(failure).__name__}"
        return CaseUncertainty(note=words)


class _UncertaintyPass:
    """One pass over the image's windows, in which each is answered by its mutual information."""

    def __init__(
        self, request: Request, settings: Settings, views: Views, adapted: Shadow | None, head: Head | Literal["auto"]
    ) -> None:
        if request.source is None:
            raise CannotAdapt("the network's layers cannot be seen")
        if head == "auto":
            raise CannotAdapt("no answer showed what the network's channels stand for")
        self.request = request
        self.method = settings.method
        self.views = views
        self.head: Head = head
        self.is_adapted = adapted is not None
        self.shadow = adapted if adapted is not None else self._source_shadow()
        self.n_answers = 0
        self.channels = 0

    def map_of_image(self, answer: Any) -> CaseUncertainty:
        """The map of the whole image.

        Raises:
            CannotAdapt: where it is not on the answer's grid, or the network is given something of each window's own.
        """
        spatial = tuple(self.request.reader.main(answer).shape[2:])
        try:
            self.views.of(spatial)
        except ValueError as error:
            raise CannotAdapt(str(error)) from error
        found = self.request.answer_by(self._answer)
        if not isinstance(found, Tensor) or tuple(found.shape) != (1, 1, *spatial):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise CannotAdapt(f"put together, it is {shape} and the answer is {spatial}: the map would lie elsewhere")
        facts = Uncertainty(largest=largest_information(self.channels, self.head), n_answers=self.n_answers)
        return CaseUncertainty(detached_copy(found)[0].float(), facts)

    def _answer(self, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The mutual information ``(N, 1, *spatial)`` of windows, in the network's place."""
        shadow = self.shadow
        shadow.extra = without_idle_places(self.request.source, args, kwargs)
        refuse_views_of_window_inputs(*shadow.extra)
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            without_weight_cache(windows.device),
            torch.autocast(windows.device.type, enabled=False),
        ):
            return mutual_information(self._single_answers(detached_copy(windows)), self.head)

    def _single_answers(self, windows: Tensor) -> Iterator[tuple[float, Tensor]]:
        """What is behind the answer to some windows; how many these are, and of how many channels, is kept."""
        single_answers = self.method.single_answers if self.is_adapted else single_answers_of
        self.n_answers = 0
        for weight, p in single_answers(self.shadow, windows, self.views):
            self.n_answers += 1
            self.channels = p.shape[1]
            yield weight, p

    def _source_shadow(self) -> Shadow:
        """A copy of the source that answers as the source does."""
        source = self.request.source
        assert source is not None
        with torch.inference_mode(False):
            shadow = Shadow(source, self.head, None)
        shadow.reader = self.request.reader
        return shadow
