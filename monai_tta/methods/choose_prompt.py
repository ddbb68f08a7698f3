"""ChoosePrompt: let the image say by which prompt a network with modality or task prompts should be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import each_finite
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.label_free_metrics import agreement, confidence, hard_masks, mean_entropy, structures
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import answers_of_views
from monai_tta.core.views import Views
from monai_tta.core.wrapper import Wrapper
from monai_tta.methods.source import Source

Value = int | float | str


class _GivePrompt:
    """Gives a shadow's network one keyword argument more, or in place of the caller's; the caller's while ``value`` is None."""

    def __init__(self, name: str, per_window: bool) -> None:
        self.name = name
        self.per_window = per_window
        self.value: Value | None = None

    def __call__(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        """The network's arguments, with the prompt."""
        if self.value is None:
            return args, kwargs
        value: Any = self.value
        if self.per_window:
            windows = args[0] if args else next(v for v in kwargs.values() if isinstance(v, Tensor) and v.ndim > 3)
            value = torch.full((len(windows),), self.value, device=windows.device)  # type: ignore[arg-type]
        return args, kwargs | {self.name: value}


@dataclass(frozen=True, kw_only=True)
class ChoosePrompt(Wrapper):
    """Ask a network under each of several prompts, and adapt and answer under the one whose answers look best without a label.

    For networks that are told the modality or the task, such as UniSeg (Ye et al., MICCAI 2023, arXiv 2304.03493) and MedUniSeg
    (arXiv 2410.05905, 2024). Their prompts name what they were trained on. An image of another scanner may lie closer to
    another prompt than to its own. Which one is decided once per volume, from its adaptation windows, before the inner method
    adapts. Those papers choose by hand; choosing by the answers is ours, and untested on their networks.

    It costs a forward pass of each adaptation window for each candidate, times the number of views for metric="agreement". It
    keeps nothing from case to case, and needs a network that takes the prompt as a keyword argument. All candidates must mean
    the same structures by the same channels. In a stream `Collapse` compares with the caller's prompt, so a case under another
    prompt may count as a suspicious one.

    Each case's first step notes every candidate's figure and the chosen candidate's place among them. A candidate that finds no
    structure, or whose answer is not finite, has no figure and is not chosen. Where the best one is no better than the first by
    more than ``margin``, or none has a figure, the first is kept.

    Args:
        name: the network's keyword argument.
        candidates: its values, numbers or words, the usual one first; at least one.
        metric: "agreement" of views (higher is better), "entropy" per voxel of foreground (lower) or "confidence" (higher).
        views: for "agreement": those that the network was trained with.
        margin: by how much the best figure must exceed the first candidate's, 0 or more.
        per_window: give the value as a tensor with one entry per window, as UniSeg's ``task_id``.
        inner: the method that adapts under the chosen prompt; `Source()` for none.

    Raises:
        ValueError: for choices out of range.
    """

    name: str
    candidates: tuple[Value, ...]
    metric: Literal["agreement", "entropy", "confidence"] = "agreement"
    views: Views = Views()
    margin: float = 0.0
    per_window: bool = False
    inner: AdaptationMethod = Source()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.candidates:
            raise ValueError(
                f"name is a keyword and there is at least one candidate, found {self.name!r} and {self.candidates!r}"
            )
        if self.metric not in ("agreement", "entropy", "confidence"):
            raise ValueError(f"metric must be 'agreement', 'entropy' or 'confidence', found {self.metric!r}")
        if self.margin < 0:
            raise ValueError(f"margin is 0 or more, found {self.margin}")
        if self.per_window and any(isinstance(value, str) for value in self.candidates):
            raise ValueError(f"per_window makes tensors, which hold numbers, found {self.candidates!r}")

    @property
    def learns(self) -> bool:
        """True: it decides from adaptation windows."""
        return True

    @property
    def adapts(self) -> bool:
        """True: another prompt is another answer."""
        return True

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """Not defined: a gain predictor would take it for the inner method.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("ChoosePrompt cannot be a candidate of Careful: gain predictors know nothing of prompts")

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """The inner method's shadow, whose network is given what the caller gives until there is a case."""
        shadow = self.inner.begin(source, head)
        shadow.module.register_forward_pre_hook(_GivePrompt(self.name, self.per_window), with_kwargs=True)
        return shadow

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Choose the prompt for these windows, then let the inner method adapt under it.

        Raises:
            CannotAdapt: where the network takes no such keyword.
        """
        prompt = self._prompt_of(shadow)
        figures = []
        for value in self.candidates:
            prompt.value = value
            shadow.pool_statistics(windows)
            figures.append(self._figure(shadow, windows))
        best = max(range(len(figures)), key=figures.__getitem__)
        best = best if figures[best] > figures[0] + self.margin else 0
        prompt.value = self.candidates[best]
        sign = -1 if self.metric == "entropy" else 1
        noted = {
            f"{self.metric}, {self.name}={v!r}": sign * f for v, f in zip(self.candidates, figures, strict=True) if isfinite(f)
        }
        step = Step(notes={**noted, f"chosen {self.name}": float(best)})
        shadow.pool_statistics(windows)
        return (step, *(self.inner.adapt(shadow, windows, loss) if self.inner.learns else ()))

    @torch.no_grad()
    def _figure(self, shadow: Shadow, windows: Tensor) -> float:
        """How good the answers under the present prompt look, higher is better; minus infinity where nothing is found."""
        views = self.views if self.metric == "agreement" else Views(axes=(), turns=False)
        try:
            each = answers_of_views(shadow, windows, views)
        except TypeError as error:
            raise CannotAdapt(f"{shadow.kind} cannot be given {self.name!r} as a keyword argument: {error}") from error
        p = torch.stack(each).mean(0)
        if not bool(each_finite(p).all()) or not bool(hard_masks(p, shadow.head).any()):
            return -inf
        if self.metric == "confidence":
            return confidence(p, shadow.head)
        if self.metric == "entropy":
            return -mean_entropy(p, shadow.head) / float(structures(p, shadow.head).mean())
        return sum(agreement(one, p, shadow.head) for one in each) / len(each)

    def _prompt_of(self, shadow: Shadow) -> _GivePrompt:
        """What gives a shadow's network this prompt."""
        for hook in shadow.module._forward_pre_hooks.values():
            if isinstance(hook, _GivePrompt) and hook.name == self.name:
                return hook
        raise TypeError(f"ChoosePrompt works on the shadow that its begin() makes, found {type(shadow).__name__}")
