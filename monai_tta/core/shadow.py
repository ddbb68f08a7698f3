"""A shadow: a private copy of the source network with a few tensors of its own, which may move.

Frozen parameters share the source's storage; the moving ones and the buffers are copied. Normalisation layers change in the copy
alone. So nothing that an adaptation does can reach the source. To reset, drop the shadow and make another.

The shadow of a network in half precision computes in float32, because half-width numbers are too coarse to learn with. All its
tensors are then its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.checkpointing import checkpoint_blocks
from monai_tta.compute.containers import map_tensors
from monai_tta.compute.fast_kernels import use_fast_kernels
from monai_tta.compute.precision import Precision, at_least_float32, autocast_for
from monai_tta.core.answer_form import AnswerReader
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.gradients import Gradient, displaced, finite, gradient, holding, step_along
from monai_tta.core.network_copy import copy_sharing_parameters, in_fast_layout, set_eval_mode, widen_half_tensors
from monai_tta.core.norm_uses import begin_pass
from monai_tta.core.normalization import StatisticsFrom, with_statistics
from monai_tta.core.objectives import Head
from monai_tta.core.selection import Selection
from monai_tta.core.shadow_norms import HasNorms

NARROWS = "is in half precision, adapts in float32, and makes half-width numbers of its features by itself"


class Shadow(HasNorms):
    """A private copy of a source network: call it with windows, get logits.

    Args:
        source: the network, unwrapped (no DataParallel, DDP or compile shell); never written to.
        head: what its logits stand for, "softmax" or "sigmoid".
        select: which parameters may move; None for none.
        statistics: whose normalisation statistics are used: "source", "window" or "volume".
        blend: share of the present statistics in a mixture with the source's, in [0, 1].

    These attributes say how the shadow runs. They are set before it adapts: ``reader`` (finds the logits in an answer), ``extra``
    (the positional and keyword arguments that the network takes besides windows), ``precision``, ``voxels_at_once`` (see
    `windows_at_once`), ``over_processes`` (whether gradients are means over all processes), ``layout`` (gives windows their
    memory layout) and ``optimizer``.

    Arguments of its functions: ``windows``, a tensor ``(N, C, *spatial)``; ``loss``, a scalar function of shadow and windows;
    ``direction``, one gradient or None per moving tensor; ``distance``, a factor on it; ``values``, one tensor per moving tensor;
    ``seed``, a whole number; ``other``, a shadow; ``state``, what `state` returned.

    Raises:
        CannotAdapt: when the selection finds nothing, or the network cannot be copied.
    """

    def __init__(
        self,
        source: nn.Module,
        head: Head,
        select: Selection | None,
        statistics: StatisticsFrom = "source",
        blend: float = 1.0,
    ) -> None:
        self.head: Head = head
        self.kind = type(source).__name__
        if isinstance(source, torch.jit.ScriptModule):
            raise CannotAdapt(f"{self.kind} is TorchScript, which hides its layers; give the eager network instead")
        self.module = copy_sharing_parameters(source)
        self.is_widened = widen_half_tensors(self.module)
        use_fast_kernels(with_statistics(self.module, statistics, blend))
        set_eval_mode(self.module)
        self.names: list[str] = []
        self.selected: str | None = None
        for selection in select.alternatives if select else ():
            if names := selection(self.module):
                self.names = names
                self.selected = selection.record_name
                break
        if select and not self.names:
            raise CannotAdapt(
                f"{self.kind} has nothing to adapt: {select.record_name} finds none of its parameters; "
                "choose select=Auto(), Biases(), Everything() or Matching(regex)"
            )
        self._copy_moving()
        self.reader = AnswerReader(self.kind)
        self.extra: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.precision: Precision = "exact"
        self.recomputes = False
        self.voxels_at_once: int | None = None
        self.over_processes = False
        self.layout: Callable[[Tensor], Tensor] = in_fast_layout
        self.optimizer: torch.optim.Optimizer | None = None
        self.kept: dict[Hashable, Any] = {}  # what plug-ins need from their begin() on, each under its own value
        self.suspicious_cases = 0  # in a row, of a continual stream that may have collapsed
        self._seed = 0
        self._drawn = 0

    def _copy_moving(self) -> None:
        """Give the moving tensors storage of their own. Tied ones stay tied."""
        shared = list(dict.fromkeys(self.module.get_parameter(name) for name in self.names))
        fresh = {id(old): nn.Parameter(old.detach().clone(), requires_grad=True) for old in shared}
        for module in self.module.modules():
            for key, value in module._parameters.items():
                module._parameters[key] = fresh.get(id(value), value)
        self.moving: list[nn.Parameter] = list(fresh.values())
        self.start = [old.detach() for old in shared]

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits ``(N, K, *spatial)`` of windows ``(N, C, *spatial)`` of the main output, at least float32 for float32."""
        logits = self.reader.logits(self.outputs(windows), self.head)
        if logits.requires_grad:  # every layer is slower where its gradient has another memory layout than its features
            logits.register_hook(self.layout)
        return at_least_float32(logits) if windows.dtype == torch.float32 else logits

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network returns, in its own container."""
        args, kwargs = self.extra
        if self.is_widened:
            windows, args, kwargs = map_tensors(_at_least_float32, (windows, args, kwargs))
        begin_pass(self.module)
        try:
            with autocast_for(self.precision, windows):
                return self.reader.ask(lambda: self.module(self.layout(windows), *args, **kwargs), windows)
        except RuntimeError as error:
            if self.is_widened and "type" in str(error):
                raise CannotAdapt(f"{self.kind} {NARROWS}: {error}") from error
            raise

    def gradient(self, loss: Callable[[Shadow, Tensor], Tensor], windows: Tensor) -> tuple[float, Gradient]:
        """Mean of a loss ``(shadow, windows) -> scalar`` over windows, and its gradient where the moving tensors are now."""
        return gradient(
            partial(loss, self),
            windows,
            self.moving,
            voxels_at_once=self.voxels_at_once,
            over_processes=self.over_processes,
        )

    def displaced(self, direction: Gradient, distance: float) -> AbstractContextManager[None]:
        """A ``with`` block in which the moving tensors stand ``distance * direction`` away from where they are."""
        return displaced(self.moving, direction, distance)

    def holding(self, values: Sequence[Tensor]) -> AbstractContextManager[None]:
        """A ``with`` block in which the moving tensors have other values, such as ``start``, the source's; for passes alone."""
        return holding(self.moving, values)

    def layers(self, apart: bool = True) -> list[str]:
        """The name of each moving tensor's layer, or, unless ``apart``, one name for all. A tied tensor is in its first layer."""
        first: dict[int, str] = {}
        for name in self.names:
            first.setdefault(id(self.module.get_parameter(name)), name.rpartition(".")[0] if apart else "all")
        return [first[id(tensor)] for tensor in self.moving]

    def step_along(self, direction: Gradient, scale: float | Sequence[float] = 1.0) -> None:
        """One optimiser step down a gradient, at ``scale`` times the learning rate; one number, or one per moving tensor.

        Raises:
            CannotAdapt: when no gradient reaches any moving tensor, or there is no optimiser.
            FloatingPointError: when the gradient is not finite; nothing has moved then.
        """
        if all(part is None for part in direction):
            raise CannotAdapt(
                "no gradient reaches what may move: the network answers under torch.no_grad, by re-entrant checkpointing, or "
                "through a closure over layers of its own; choose another selection or give a network without these"
            )
        if not finite(direction):
            raise FloatingPointError("the gradient is not finite; no step was taken")
        if self.optimizer is None:
            raise CannotAdapt("the shadow has no optimiser; a method's begin() must set shadow.optimizer")
        step_along(self.optimizer, direction, scale)

    def recompute(self) -> None:
        """Adapt in less memory and more time from now on, see `monai_tta.compute.checkpointing`."""
        if not self.recomputes:
            self.recomputes = checkpoint_blocks(self.module) > 0

    def run_like(self, other: Shadow) -> None:
        """Run as another shadow does: with its reader, extra arguments, precision, recomputing, batches and processes."""
        self.reader = other.reader
        self.extra = other.extra
        self.precision = other.precision
        self.voxels_at_once = other.voxels_at_once
        self.over_processes = other.over_processes
        if other.recomputes:
            self.recompute()

    def seed(self, seed: int) -> None:
        """Restart this shadow's sequence of random seeds."""
        self._seed = seed
        self._drawn = 0

    def draw(self) -> int:
        """The next random seed of this shadow. The caller's generators are untouched."""
        self._drawn += 1
        return (self._seed * 1_000_003 + self._drawn) % 2**32

    def state(self) -> dict[str, Any]:
        """What a continual stream has learnt, for `torch.save`: tensors and plain numbers, and no part of an image."""
        optimizer = self.optimizer.state_dict() if self.optimizer else None
        moving = [tensor.detach().clone() for tensor in self.moving]
        return {"moving": moving, "optimizer": optimizer, "suspicious_cases": self.suspicious_cases}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned for a shadow that began in the same way."""
        with torch.no_grad():
            for tensor, saved in zip(self.moving, state["moving"], strict=True):
                tensor.copy_(saved)
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.suspicious_cases = int(state["suspicious_cases"])

    @property
    def answering(self) -> tuple[tuple[Shadow, float], ...]:
        """The shadows whose answers are mixed in this one's, each with its weight; weights sum to 1."""
        return ((self, 1.0),)

    @property
    def weight_distance(self) -> float:
        """Euclidean distance of the moving tensors from the source's."""
        return float(sum(((a.detach() - b) ** 2).sum() for a, b in zip(self.moving, self.start, strict=True))) ** 0.5


def _at_least_float32(value: Any) -> Any:
    return at_least_float32(value) if isinstance(value, Tensor) else value
