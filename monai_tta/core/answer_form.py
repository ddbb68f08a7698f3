"""What a network's answers are like: which output is the main one, and whether it holds logits or probabilities.

Methods compute with logits. The answer that a user gets stays in the network's own form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.compute.containers import Name, NoMainOutput, Place, at_place, place_of_main, put_at
from monai_tta.compute.precision import at_least_float32
from monai_tta.compute.watch_endings import WatchEndings, watched
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import Head, head_of_channels

AnswersAre = Literal["auto", "logits", "probabilities"]
_LAST_IS_MAIN = {"BasicUNetPlusPlus"}  # with deep supervision its last output is the one of the whole decoder
_LEAST = 1e-12  # a smaller probability counts as this one, so that its logarithm is finite


@dataclass(frozen=True, kw_only=True)
class AnswerForm:
    """The form of a network's answers.

    Args:
        place: where the main output is.
        kind: "logits", or "probabilities" in [0, 1].
        sums_to_one: whether probabilities sum to one over the channels, as those of a softmax do.
    """

    place: Place = ()
    kind: Literal["logits", "probabilities"] = "logits"
    sums_to_one: bool = False

    def head_of(self, channels: int) -> Head:
        """What so many channels stand for where nobody says: probabilities of a sigmoid do not sum to one."""
        if self.kind == "probabilities":
            return "softmax" if self.sums_to_one else "sigmoid"
        return head_of_channels(channels)

    def logits(self, main: Tensor, head: Head) -> Tensor:
        """A main output as logits: itself, or those whose softmax or sigmoid it is, in float32 or wider.

        Args:
            main: ``(N, K, *spatial)``.
            head: what the channels stand for.
        """
        if self.kind == "logits":
            return main
        p = at_least_float32(main)
        if head == "softmax" and self.sums_to_one:
            return p.clamp_min(_LEAST).log()
        return p.logit(eps=1e-6)

    def own(self, logits: Tensor, head: Head) -> Tensor:
        """Logits ``(N, K, *spatial)`` in the form of the network's own main output."""
        if self.kind == "logits":
            return logits
        return logits.softmax(1) if head == "softmax" and self.sums_to_one else logits.sigmoid()


class AnswerReader:
    """Reads logits out of a network's answers. The first finite answer of an image shows their form.

    Args:
        network: the network's class, by name.
        name: of the main output, see `monai_tta.compute.containers.place_of_main`.
        answers: what the main output holds: "logits", "probabilities", or "auto", which finds it out. Values in [0, 1] are
            probabilities where they sum to one over the channels, or where the network ends in a sigmoid, softmax or the like.
        main_only: whether users get the main output alone.
    """

    def __init__(
        self, network: str = "", name: Name | None = None, answers: AnswersAre = "auto", main_only: bool = False
    ) -> None:
        self.name = name
        self.answers = answers
        self.main_only = main_only
        self.form: AnswerForm | None = None
        self._why_no_logits: str | None = None
        self._last = network in _LAST_IS_MAIN

    def ask(self, network: Callable[[], Any], windows: Tensor) -> Any:
        """Call the network on windows ``(N, C, *spatial)``, and find the form of its answers where it is not known."""
        if self.form is not None:
            return network()
        outputs, endings = watched(network) if self.answers == "auto" else (network(), None)
        with suppress(CannotAdapt):  # whoever needs the main output will hear of it
            self._note(outputs, windows.shape[2:], endings)
        return outputs

    def main(self, outputs: Any, spatial: Sequence[int] | None = None) -> Any:
        """The main output of a network, or of what an inferer made of it.

        Args:
            outputs: the answer.
            spatial: the size of the windows that were answered, where the form is not known yet.

        Raises:
            CannotAdapt: when it cannot be told which output that is.
        """
        try:
            return at_place(outputs, self._place(outputs, spatial) if self.form is None else self.form.place)
        except (LookupError, TypeError) as error:
            why = str(error) if isinstance(error, NoMainOutput) else "the inferer returns other outputs than the network"
            raise CannotAdapt(why) from error

    def logits(self, outputs: Any, head: Head) -> Tensor:
        """The logits ``(N, K, *spatial)`` of an answer.

        Raises:
            CannotAdapt: when there are none.
        """
        main: Tensor = self.main(outputs)
        if self._why_no_logits is not None:
            raise CannotAdapt(self._why_no_logits)
        return main if self.form is None else self.form.logits(main, head)

    def answer_of(self, logits: Tensor, head: Head, others: Callable[[], Any]) -> Any:
        """Logits ``(N, K, *spatial)`` that a method has computed, as an answer in the network's own form.

        Args:
            logits: for the place of the main output.
            head: what they stand for.
            others: computes an answer of the network, for its other outputs; called where it has any that a user gets.
        """
        if self.form is None:
            return logits
        main = self.form.own(logits, head)
        if not self.form.place or self.main_only:
            return main
        outputs = others()
        return put_at(outputs, self.form.place, main.to(at_place(outputs, self.form.place).dtype))

    def for_user(self, outputs: Any) -> Any:
        """What a user gets of an answer: all of it, or the main output alone."""
        return self.main(outputs) if self.main_only else outputs

    def head_of(self, channels: int) -> Head:
        """What so many channels stand for where nobody says."""
        return (self.form or AnswerForm()).head_of(channels)

    @property
    def kind(self) -> str | None:
        """What the main output holds, for records; None where no answer showed it."""
        return None if self.form is None else self.form.kind

    def _place(self, outputs: Any, spatial: Sequence[int] | None) -> Place:
        return place_of_main(outputs, name=self.name, spatial=spatial, last=self._last)

    def _note(self, outputs: Any, spatial: Sequence[int], endings: WatchEndings | None) -> None:
        """Keep the form of an answer, if it shows one. An answer that is NaN does not."""
        main = self.main(outputs, spatial)
        if not isinstance(main, Tensor) or main.ndim < 2 or not main.is_floating_point() or not main.numel():
            return
        form = AnswerForm(place=self._place(outputs, spatial))
        if self.answers != "logits":
            low, high, sums_to_one = _range_of(main)
            if not low <= high:
                return
            ending = None if endings is None else endings.ending_of(main)
            in_unit = 0 <= low and high <= 1
            if self.answers == "probabilities" and not in_unit:
                self._why_no_logits = f"answers='probabilities', but the network's answers go from {low:.3g} to {high:.3g}"
            elif ending == "log of probability" and not _range_of(main.exp())[2]:
                self._why_no_logits = "the network answers logarithms of a sigmoid; let it return the logits before them"
            elif in_unit and (sums_to_one or ending == "probability" or self.answers == "probabilities"):
                form = replace(form, kind="probabilities", sums_to_one=sums_to_one)
        self.form = form


@torch.no_grad()
def _range_of(main: Tensor) -> tuple[float, float, bool]:
    """The least and the largest number, and whether the channels sum to one everywhere, up to rounding."""
    own = main.detach().as_subclass(Tensor)
    low, high = (float(x) for x in own.aminmax())
    if not 0 <= low <= high <= 1 or own.shape[1] < 2:
        return low, high, False
    rounding = 1e-4 if own.dtype in (torch.float32, torch.float64) else 2e-2
    return low, high, bool(((at_least_float32(own).sum(1) - 1).abs() <= rounding).all())


def logits_of(network: nn.Module, windows: Tensor, head: Head) -> Tensor:
    """A network's logits ``(N, K, *spatial)`` of windows ``(N, C, *spatial)``."""
    reader = AnswerReader(type(network).__name__)
    return reader.logits(reader.ask(partial(network, windows), windows), head)
