"""A promptable network that prompts itself: each answer's mask makes the prompts of the next answer, window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.compute.containers import main_output
from monai_tta.core.norm_uses import begin_pass
from monai_tta.core.normalization import AdaptiveNorm
from monai_tta.core.point_prompts import bounding_box, depth, padded_points, spread_points
from monai_tta.inference.prompt_arguments import KINDS, PromptArguments, Prompts, arguments_of

__all__ = ["PromptRounds", "PromptedNetwork"]

ErrorDecoder = Callable[[Tensor, Tensor], Tensor]  # window (1, C, *spatial), probabilities (1, B, *spatial) -> errors in [0, 1]


@dataclass(frozen=True, kw_only=True)
class PromptRounds:
    """How a network prompts itself.

    Args:
        rounds: how many answers with prompts follow the first one, at most; 0 or more.
        n_points: how many points per object and round, at most; 1 or more.
        prompt: "points", "box", "mask", or several of these with "+" between them.
        placement: "inside" places points far from the mask's border, "certain" where the network is most certain of the mask.
            Without effect where an error decoder places them.

    Raises:
        ValueError: for choices out of range.
    """

    rounds: int = 3
    n_points: int = 1
    prompt: str = "points"
    placement: Literal["inside", "certain"] = "inside"

    def __post_init__(self) -> None:
        if not isinstance(self.rounds, int) or self.rounds < 0 or not isinstance(self.n_points, int) or self.n_points < 1:
            raise ValueError(f"rounds is 0 or more and n_points 1 or more, found {self.rounds!r} and {self.n_points!r}")
        if not self.kinds or any(kind not in KINDS for kind in self.kinds):
            raise ValueError(f"prompt is one of {', '.join(KINDS)}, or several with '+' between them, found {self.prompt!r}")
        if self.placement not in ("inside", "certain"):
            raise ValueError(f"placement must be 'inside' or 'certain', found {self.placement!r}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What prompts are made of."""
        return tuple(self.prompt.split("+"))


class PromptedNetwork(nn.Module):
    """Answer without prompts, then again and again with prompts made of the answer before.

    CoSAM's loop (arXiv 2411.10136, 2024), as far as its abstract tells it; see `monai_tta.inference.self_prompting`. It is a
    network like any other, so any inferer cuts images into windows for it, and any method adapts a copy of it. Prompts belong
    to one window and are in that window's coordinates.

    Each channel of an answer is an object, and each object has a loop of its own: its mask is where its logit is above 0. An
    object without a mask gets no prompts, and keeps its logits. Where no mask of a window has changed, its loop ends. Gradients
    pass through the last answer alone: a mask has none.

    Args:
        network: an eager module. It becomes a child of this one, and is not changed.
        how: the rounds.
        arguments: by which keywords the network takes prompts; None for VISTA3D's where it has them, else SAM's.
        error_decoder: predicts the error of an answer, ``(window (1, C, *spatial), probabilities (1, B, *spatial)) -> (1, B,
            *spatial)`` in [0, 1]. The answer is corrected by it before prompts are made, and points are put where the error is
            highest. It is no part of the network: no method moves it.

    Raises:
        ValueError: for a network that takes no such keywords.
    """

    def __init__(
        self,
        network: nn.Module,
        how: PromptRounds = PromptRounds(),
        arguments: PromptArguments | None = None,
        error_decoder: ErrorDecoder | None = None,
    ) -> None:
        super().__init__()
        self.how = how
        self.arguments = arguments or arguments_of(network)
        self.arguments.check(network, how.kinds)
        self.network = network
        self.training = network.training
        self._error_decoder = (error_decoder,)  # in a tuple, where torch does not see its parameters

    def forward(self, windows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Logits ``(N, B, *spatial)`` of windows ``(N, C, *spatial)``: the last round's.

        ``args`` and ``kwargs`` are what else the network takes. Meta data of the windows stay where the network keeps them.

        Args:
            windows: ``(N, C, *spatial)``.
            args: what else the network takes.
            kwargs: what else the network takes.

        Raises:
            ValueError: when ``kwargs`` has prompts of the caller's own.
        """
        first = main_output(self.network(windows, *args, **self.arguments.without_prompts(kwargs)))
        if self.how.rounds == 0 or self._statistics_are_pooled():
            return first
        own = _plain(windows)
        logits = _plain(first)
        last = [self._loop(own[i : i + 1], logits[i : i + 1], args, kwargs) for i in range(len(own))]
        answer = torch.cat(last) if len(last) > 1 else last[0]
        if isinstance(first, MetaTensor) and isinstance(windows, MetaTensor):
            return MetaTensor(answer).copy_meta_from(windows, copy_attr=False)
        return answer

    def __getattr__(self, name: str) -> Any:
        """A child or parameter of its own, else the network's attribute: inferers of some bundles read these."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network" or name.startswith("__"):  # a copy asks for these before there is a network
                raise
            return getattr(self.network, name)

    def _statistics_are_pooled(self) -> bool:
        """Whether normalisation layers pool statistics now: over all windows at once, which only the first answer sees."""
        return any(isinstance(m, AdaptiveNorm) and m.pooling for m in self.network.modules())

    def _loop(self, window: Tensor, logits: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The last answer ``(1, B, *spatial)`` for one window, from its first."""
        before: Tensor | None = None
        for _ in range(self.how.rounds):
            mask = logits.detach() > 0
            if before is not None and torch.equal(mask, before):
                break
            before = mask
            prompts = self.prompts(window, logits.detach())
            if prompts is None:
                break
            asked = self.arguments.with_prompts(kwargs, prompts, window)
            others = self.arguments.positional_with_prompts(args)
            begin_pass(self.network)
            answer = _plain(main_output(self.network(window, *others, **asked)))
            logits = _with_objects(logits, answer, prompts.objects)
        return logits

    @torch.no_grad()
    def prompts(self, window: Tensor, logits: Tensor) -> Prompts | None:
        """The prompts that an answer makes.

        Args:
            window: ``(1, C, *spatial)``.
            logits: the answer so far ``(1, B, *spatial)``.

        Returns:
            prompts for the objects that were found; None where there are none.
        """
        p = logits.float().sigmoid()
        (decoder,) = self._error_decoder
        error = None
        if decoder is not None:
            error = decoder(window, p).to(p).clamp(0, 1)
            p = p * (1 - error) + (1 - p) * error
        masks = p[0] > 0.5
        objects = [k for k, mask in enumerate(masks) if bool(mask.any())]
        if not objects:
            return None
        parts: dict[str, Any] = {}
        if "points" in self.how.kinds:
            each = [self._points(p[0, k], masks[k], None if error is None else error[0, k]) for k in objects]
            labels = [[int(masks[k][place]) for place in places] for k, places in zip(objects, each, strict=True)]
            parts["points"], parts["labels"] = padded_points(each, labels, window.ndim - 2, window.device)
        if "box" in self.how.kinds:
            parts["box"] = torch.tensor([bounding_box(masks[k]) for k in objects], dtype=torch.float32, device=window.device)
        if "mask" in self.how.kinds:
            corrected = logits[0, objects] if error is None else torch.logit(p[0, objects], eps=1e-6)
            parts["mask"] = corrected[:, None].to(window.dtype)
        return Prompts(objects=objects, **parts)

    def _points(self, p: Tensor, mask: Tensor, error: Tensor | None) -> list[tuple[int, ...]]:
        """Where the points of one object are, from its probabilities and mask ``(*spatial)``."""
        if error is not None:
            return spread_points(error, torch.ones_like(mask), self.how.n_points, torch.maximum(depth(mask), depth(~mask)))
        inside = depth(mask)
        return spread_points(inside if self.how.placement == "inside" else p, mask, self.how.n_points, inside)


def _plain(tensor: Tensor) -> Tensor:
    """Without meta data, which batches of other sizes would confuse."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _with_objects(logits: Tensor, answer: Tensor, objects: Any) -> Tensor:
    """Logits ``(1, B, *spatial)`` with those of some objects replaced by an answer ``(1, b, *spatial)`` or ``(b, 1, *spatial)``.

    Raises:
        ValueError: for an answer of another shape.
    """
    wanted = (1, len(objects), *logits.shape[2:])
    own = answer.transpose(0, 1) if answer.shape[0] == len(objects) and answer.shape[1] == 1 else answer
    if tuple(own.shape) != wanted:
        raise ValueError(f"the network answered prompts for {len(objects)} objects by {tuple(answer.shape)}, not by {wanted}")
    if len(objects) == logits.shape[1]:
        return own.to(logits.dtype)
    merged = logits.clone()
    merged[:, objects] = own.to(logits.dtype)
    return merged
