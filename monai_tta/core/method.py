"""The contract of a method: what may move, which way, and how far. The inferer decides when, and whether to keep the answer.

An `AdaptationMethod` is a value: frozen, hashable, picklable, and rebuilt from its repr. All state is in the shadow that its
`begin` makes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head, probabilities
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.record import Step, repr_for_records
from monai_tta.core.selection import Auto, Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views, single_answers_of
from monai_tta.core.views import Views

Loss = Callable[[Shadow, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AdaptationMethod(ABC):
    """How to adapt: five functions that work on a shadow, and what other packages need to know of a method.

    Their arguments: ``source``, the unadapted network; ``head``, "softmax" or "sigmoid"; ``shadow``, what `begin` returned;
    ``windows``, a tensor ``(N, C, *spatial)``; ``loss``, a function of shadow and windows; ``weights``, a checkpoint's file;
    ``lr``, a learning rate, 0 or more. See `docs/add-a-method.md`.
    """

    @property
    def pools_statistics(self) -> bool:
        """Whether the shadow's statistics are pooled over a volume's adaptation windows."""
        return False

    @property
    def default_budget(self) -> int:
        """How many windows of a volume to adapt on with budget="auto". To learn from, one was as good as all, on the real and
        simulated volumes that we measured. Pooled statistics get better with each; four is a compromise (docs/performance.md).
        """
        return 4 if self.pools_statistics else 1

    @property
    def learns(self) -> bool:
        """Whether `adapt` does anything."""
        return True

    @property
    def adapts(self) -> bool:
        """Whether an answer can differ from the source's. Where it cannot, the inner inferer runs as if without adaptation."""
        return True

    @property
    def answers_by_the_network(self) -> bool:
        """Whether `predict` is a forward pass of the shadow and no more: only changes of the shadow then change an answer."""
        return type(self).predict is AdaptationMethod.predict

    @property
    def is_continual(self) -> bool:
        """Whether the method is meant for streams (reset="never"), because it keeps something from case to case."""
        return False

    @property
    def lr(self) -> float | None:
        """Its learning rate, 0 or more; None for a method that takes no steps."""
        return None

    def with_lr(self, lr: float) -> AdaptationMethod:
        """The same method at another learning rate, 0 or more.

        Raises:
            ValueError: for a method whose `lr` is None.
        """
        raise ValueError(f"{type(self).__name__} takes no steps, so it has no learning rate")

    @property
    def record_name(self) -> str:
        """What records call it: its repr, without the folders of files."""
        return repr_for_records(self)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files, besides the bundle's, that an answer depends on. A run that resumes checks that they are the same."""
        return ()

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """What a gain predictor gets to know of this method when it is a candidate of `Careful`.

        Returns:
            numbers by the names in `monai_tta.quality.features.CANDIDATE_FEATURES`; 0 for a name that is left out.

        Raises:
            NotImplementedError: for a method that does not define it. Zeros would make it look like another method.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be a candidate: it does not define candidate_features, by which a gain predictor "
            "tells candidates apart"
        )

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """This method with what belongs to one checkpoint, such as the gain predictor beside the file of weights.

        Raises:
            FileNotFoundError: when one of its `files` is not there: at once, rather than once per case.
        """
        if missing := [file for file in self.files if not file.is_file()]:
            raise FileNotFoundError(f"{missing[0]} does not exist")
        return self

    @abstractmethod
    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """Make a shadow, which holds everything that may change, for one case or one continual stream.

        Raises:
            CannotAdapt: for a network that this method cannot adapt.
        """

    @abstractmethod
    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """A scalar to minimise, for windows ``(N, C, *spatial)``."""

    @abstractmethod
    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Learn from windows ``(N, C, *spatial)`` by minimising the loss that is handed in; return one record per step."""

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Answer windows ``(N, C, *spatial)`` in the network's own container, and change nothing."""
        return shadow.outputs(windows)

    def answer_in_views(self, shadow: Shadow, windows: Tensor, views: Views) -> tuple[Tensor, list[Tensor]]:
        """Probabilities ``(N, K, *spatial)`` of what `predict` answers, and of the answers in single views (undone).

        The quality of an answer is predicted from these. A method that averages over views itself gives the answers before they
        are averaged, because averages over views hardly differ from each other. Changes nothing.

        Args:
            shadow: after it has adapted.
            windows: the windows.
            views: which mirrors and turns.
        """
        if self.answers_by_the_network:
            of_views = answers_of_views(shadow, windows, views)
        else:
            poses = views.of(windows.shape[2:])
            of_views = [pose.undo(self._probabilities(shadow, pose.apply(windows))) for pose in poses]
        return of_views[0], of_views

    def single_answers(self, shadow: Shadow, windows: Tensor, views: Views) -> Iterator[tuple[float, Tensor]]:
        """Every answer behind `predict`, in each view: weights, which sum to 1, and probabilities ``(N, K, *spatial)``.

        How much they disagree is a mask's uncertainty. ``views`` says which mirrors and turns. Changes nothing.
        """
        if self.answers_by_the_network:
            return single_answers_of(shadow, windows, views)
        of_views = self.answer_in_views(shadow, windows, views)[1]
        return ((1 / len(of_views), p) for p in of_views)

    def _probabilities(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Probabilities of what `predict` answers."""
        return probabilities(at_least_float32(shadow.reader.logits(self.predict(shadow, windows), shadow.head)), shadow.head)

    def consolidate(self, source: nn.Module, head: Head) -> dict[str, Tensor]:
        """Work between sessions, at night: new values for some of the source's state, which a new checkpoint gets.

        Returns:
            tensors by their names in ``source.state_dict()``; empty for most methods, which do no such work.
        """
        return {}


@dataclass(frozen=True, kw_only=True)
class Descent(AdaptationMethod):
    """The usual case: select tensors, choose statistics, take ``steps`` optimiser steps down one loss.

    Args:
        select: which tensors may move.
        statistics: whose normalisation statistics are used: "source", "window" or "volume".
        blend: share of the present statistics in a mixture with the source's, in [0, 1].
        optimizer: the optimiser and its learning rate.
        steps: how many steps per call of `adapt`, 0 or more.
    """

    select: Selection = Auto()
    statistics: StatisticsFrom = "window"
    blend: float = 1.0
    optimizer: OptimizerSpec = Adam()
    steps: int = 1

    def __post_init__(self) -> None:
        if self.statistics not in ("source", "window", "volume"):
            raise ValueError(f"statistics must be 'source', 'window' or 'volume', found {self.statistics!r}")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend is the share of the present statistics, in [0, 1], found {self.blend}")
        if not isinstance(self.steps, int) or self.steps < 0:
            raise ValueError(f"steps is a whole number, 0 or more, found {self.steps!r}")

    @property
    def pools_statistics(self) -> bool:
        """True for statistics="volume"."""
        return self.statistics == "volume"

    @property
    def lr(self) -> float | None:
        """The optimiser's."""
        return self.optimizer.lr

    def with_lr(self, lr: float) -> AdaptationMethod:
        """The same method whose optimiser has another learning rate."""
        changed: Any = self.optimizer  # each optimiser is a dataclass
        return replace(self, optimizer=replace(changed, lr=lr))

    @property
    def files(self) -> tuple[Path, ...]:
        """The selection's and the optimiser's."""
        return (*self.select.files, *self.optimizer.files)

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Its blend, and its step size: the learning rate times the number of steps."""
        return {"blend": self.blend, "step size": self.optimizer.lr * self.steps}

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """The same method with the optimiser that belongs to a checkpoint; raises as `AdaptationMethod.for_checkpoint`."""
        return AdaptationMethod.for_checkpoint(replace(self, optimizer=self.optimizer.for_checkpoint(weights)), weights)

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with the selected tensors moving, and an optimiser over them."""
        shadow = Shadow(source, head, self.select, self.statistics, self.blend)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Take ``steps`` steps."""
        return tuple(self.step(shadow, windows, loss) for _ in range(self.steps))

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step down the loss at the full learning rate."""
        value, gradient = shadow.gradient(loss, windows)
        shadow.step_along(gradient)
        return Step(losses={"loss": value}, lr=self.optimizer.lr)
