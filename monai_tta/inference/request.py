"""One image to be answered, and how the inner inferer answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.core.answer_form import AnswerReader
from monai_tta.core.errors import CannotAdapt
from monai_tta.inference.network import Network
from monai_tta.inference.network_proxy import Answer, NetworkProxy
from monai_tta.inference.settings import Settings


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One image and the inner inferer with the image bound to it.

    Args:
        image: ``(1, C, *spatial)``.
        network: what the inferer was handed, or a copy of it in eval mode.
        source: the module inside; None where its layers cannot be seen.
        ask: ``(image, network) -> answer``: runs the inner inferer on the image, with this network.
        only_calls: whether the inner inferer is MONAI's own sliding windows, which call the network and ask nothing else of it,
            nor care what it answers.
        restores_meta: whether the inner inferer gives the answer the image's meta data whatever the network returns.
        number: the number of the case.
        reader: finds the logits in the network's answers to this image.
    """

    image: Tensor
    network: Network
    source: nn.Module | None
    ask: Callable[[Tensor, Network], Any]
    only_calls: bool
    restores_meta: bool
    number: int
    reader: AnswerReader

    def answer_with(self, network: Network) -> Any:
        """Run the inner inferer on the image with this network."""
        return self.ask(self.image, network)

    def answer_by(self, answer: Answer, *, only_looks_at_windows: bool = False) -> Any:
        """Run the inner inferer on the image with a proxy that comes to ``answer`` in the network's place.

        Args:
            answer: ``(windows, args, kwargs) -> outputs``.
            only_looks_at_windows: whether what the inferer puts together is thrown away.

        Raises:
            CannotAdapt: where the inferer does what the proxy refuses, even where it hides the error; or never calls the proxy.
        """
        proxy = NetworkProxy(self.network, answer, only_looks_at_windows)
        tally = proxy._stand_in.tally
        answered = self.answer_with(proxy)
        if tally.refusal is not None:
            raise CannotAdapt(tally.refusal)
        if not tally.n_calls:
            raise CannotAdapt(
                "the inferer never calls the network that it is handed, so nothing adapted has a part in its answer"
            )
        return answered

    @property
    def network_name(self) -> str:
        """The class of the network, for records and messages."""
        return type(self.source if self.source is not None else self.network).__name__


def reader_for(settings: Settings, network: Network, buffered: bool) -> AnswerReader:
    """What finds the logits in a network's answers to one image.

    Args:
        settings: how to adapt.
        network: the network.
        buffered: whether windows are put together in MONAI's buffer, which keeps a single output: let it be the main one.
    """
    main_only = settings.main_only or buffered
    return AnswerReader(type(network).__name__, settings.main_output, settings.answers, main_only)
