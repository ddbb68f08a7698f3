"""The contract: a method says what may move, which way, and how far; the inferer says when, and whether to keep it.

A `AdaptationMethod` is a value (frozen, hashable, picklable, rebuilt from its repr). All state lives on the shadow it begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from monai_tta.core.gradients import finite, gradient, step_along
from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.record import Step
from monai_tta.core.selection import Auto, Selection
from monai_tta.core.shadow import CannotAdapt, Shadow

Loss = Callable[[Shadow, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AdaptationMethod(ABC):
    """Five verbs; see `docs/add-a-method.md`."""

    @property
    def pools_statistics(self) -> bool:
        """Whether the shadow's statistics are pooled over a volume's teaching windows."""
        return False

    @property
    def teachers(self) -> int:
        """How many windows of a volume it is taught by where nobody says how many: one to learn from, which is as good as all
        on the real and simulated volumes; four to pool statistics over, where each more is better (docs/performance.md)."""
        return 4 if self.pools_statistics else 1

    @property
    def record_name(self) -> str:
        """What records call it: its repr, unless that holds a path."""
        return repr(self)

    @property
    def learns(self) -> bool:
        """Whether `adapt` does anything."""
        return True

    @property
    def adapts(self) -> bool:
        """Whether an answer can differ from the source's; where it can't, the plain inferer answers."""
        return True

    @abstractmethod
    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """Make everything that may change, for one episode."""

    @abstractmethod
    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Which way: a scalar to go down, for windows ``(N, C, *spatial)``."""

    @abstractmethod
    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Learn from windows by going down the loss handed in; one record per optimiser step."""

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """Answer windows, changing nothing, in the network's own container."""
        return shadow.outputs(windows)

    def consolidate(self, shadow: Shadow) -> None:
        """Work between sessions; most methods have none."""


@dataclass(frozen=True, kw_only=True)
class NoLearning(AdaptationMethod):
    """Learn nothing: what is particular is how the shadow begins, or how it predicts."""

    @property
    def learns(self) -> bool:
        """Never."""
        return False

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow in which nothing moves."""
        return Shadow(source, head, None)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Zero."""
        return windows.new_zeros(())

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Descent(AdaptationMethod):
    """The usual case: select tensors, choose statistics, take ``steps`` optimiser steps down one loss."""

    select: Selection = Auto()
    statistics: StatisticsFrom = "window"
    blend: float = 1.0
    optimizer: OptimizerSpec = Adam()
    steps: int = 1

    def __post_init__(self) -> None:
        if self.statistics not in ("source", "window", "volume"):
            raise ValueError(f"statistics must be 'source', 'window' or 'volume', found {self.statistics!r}")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend is the present's share of the statistics, in [0, 1], found {self.blend}")
        if not isinstance(self.steps, int) or self.steps < 0:
            raise ValueError(f"steps is a whole number, 0 or more, found {self.steps!r}")

    @property
    def pools_statistics(self) -> bool:
        """True for statistics="volume"."""
        return self.statistics == "volume"

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """A shadow with the selected tensors moving, and an optimiser over them."""
        shadow = Shadow(source, head, self.select, self.statistics, self.blend)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Take ``steps`` steps."""
        return tuple(self.step(shadow, windows, loss) for _ in range(self.steps))

    def step(self, shadow: Shadow, windows: Tensor, loss: Loss) -> Step:
        """One step down the loss at the full rate."""
        value, slope = gradient(lambda w: loss(shadow, w), windows, shadow.moving)
        require_gradient(slope)
        assert shadow.optimizer is not None
        step_along(shadow.optimizer, slope)
        return Step(losses={"loss": value}, lr=self.optimizer.lr)


def require_gradient(slope: list[Tensor | None]) -> None:
    """Raise where there is no gradient to follow, and before one that is not finite can reach the weights."""
    if all(part is None for part in slope):
        raise CannotAdapt(
            "no gradient reaches what may move: the network answers under torch.no_grad, by re-entrant checkpointing, or "
            "through a closure over layers of its own; choose another selection or give a network without these"
        )
    if not finite(slope):
        raise FloatingPointError("the gradient is not finite; no step was taken")


@dataclass(frozen=True, kw_only=True)
class Wrapper(AdaptationMethod):
    """A plug-in around another method: all verbs are passed on; override the one that it improves."""

    inner: AdaptationMethod

    @property
    def record_name(self) -> str:
        """With the inner method as records call it."""
        return repr(self).replace(repr(self.inner), self.inner.record_name)

    @property
    def teachers(self) -> int:
        """As the inner method."""
        return self.inner.teachers

    @property
    def pools_statistics(self) -> bool:
        """As the inner method."""
        return self.inner.pools_statistics

    @property
    def learns(self) -> bool:
        """As the inner method."""
        return self.inner.learns

    @property
    def adapts(self) -> bool:
        """As the inner method."""
        return self.inner.adapts

    def begin(self, source: nn.Module, head: Any) -> Shadow:
        """As the inner method."""
        return self.inner.begin(source, head)

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """As the inner method."""
        return self.inner.loss(shadow, windows)

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """The inner method's learning, down the loss handed in."""
        return self.inner.adapt(shadow, windows, loss)

    def predict(self, shadow: Shadow, windows: Tensor) -> Any:
        """As the inner method."""
        return self.inner.predict(shadow, windows)

    def consolidate(self, shadow: Shadow) -> None:
        """As the inner method."""
        self.inner.consolidate(shadow)
