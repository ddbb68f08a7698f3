"""Which windows of an image to adapt on: usable ones with much contrast, uncertain or with much foreground, spread over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from monai_tta.compute.precision import each_finite
from monai_tta.compute.window_batches import windows_at_once
from monai_tta.core.objectives import Head, full_entropy, probabilities

# The source answers this many windows for each that is adapted on. To answer them all would cost as much as the whole volume.
ANSWERED_PER_WINDOW = 4


def can_adapt_from(windows: Tensor) -> bool:
    """Whether every window is finite and none is constant. Any other window has nothing to learn from and can poison weights."""
    return bool(_each_usable(windows).all())


def _each_usable(windows: Tensor) -> Tensor:
    flat = windows.flatten(1)
    return each_finite(windows) & (flat.amax(1) > flat.amin(1))


def intensity_std(windows: Tensor) -> Tensor:
    """The standard deviation of each window's voxels, in two passes: `torch.std` takes ten times as long on a CPU."""
    flat = windows.detach().flatten(1)
    return (flat - flat.mean(1, keepdim=True)).square_().mean(1).sqrt()


def informativeness(logits: Tensor, head: Head) -> float:
    """Mean foreground probability plus mean uncertainty of the source's answer, both per voxel."""
    p = probabilities(logits, head)
    foreground = p[:, 1:].sum(1).mean() if head == "softmax" else p.mean()
    return float(foreground) + float(full_entropy(logits, head)) / logits.shape[1]


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """A window ``(1, C, *spatial)``, its place in scanning order, and its score (higher is better)."""

    window: Tensor
    place: int
    score: float


@dataclass
class WindowShortlist:
    """The best ``size`` windows of a sequence, spread over it as evenly as possible; None keeps all of them.

    Only the kept windows are held in memory. Windows arrive in scanning order, so neighbours in the sequence are neighbours in
    the volume.
    """

    size: int | None
    kept: list[ScoredWindow] = field(default_factory=list)

    def offer(self, candidate: ScoredWindow) -> None:
        """Consider one window."""
        self.kept.append(candidate)
        if self.size is not None and len(self.kept) > self.size:
            self.kept.remove(min(self._droppable(), key=lambda c: c.score))

    def _droppable(self) -> list[ScoredWindow]:
        """The two windows that are closest in scanning order, because to lose one of them costs the least spread; all windows,
        where even these two are further apart than half an even share."""
        closest = min(zip(self.kept, self.kept[1:], strict=False), key=lambda pair: pair[1].place - pair[0].place)
        even_share = self.kept[-1].place / len(self.kept)
        return list(closest) if closest[1].place - closest[0].place < even_share / 2 else self.kept


class WindowSelector:
    """Selects the adaptation windows of one image, in two rounds.

    The first round keeps `ANSWERED_PER_WINDOW` times as many windows as wanted by the standard deviation of their intensities,
    which costs nothing and is close to zero for windows of air. The second round chooses among these by the source's answers.

    Args:
        budget: how many windows are wanted; None for all usable ones.
    """

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.n_seen = 0
        self.batch = 1
        self.shortlist = WindowShortlist(None if budget is None else ANSWERED_PER_WINDOW * budget)

    def offer(self, windows: Tensor) -> None:
        """Consider windows ``(N, C, *spatial)`` in scanning order."""
        self.batch = max(self.batch, len(windows))
        usable = _each_usable(windows).tolist()
        scores = intensity_std(windows).tolist()
        for window, is_usable, score in zip(windows.split(1), usable, scores, strict=True):
            self.n_seen += 1
            if is_usable:
                self.shortlist.offer(ScoredWindow(window.clone(), self.n_seen, score))

    def select(self, predict: Callable[[Tensor], Tensor], head: Head, batch_freely: bool = False) -> list[Tensor]:
        """The selected windows in scanning order.

        Args:
            predict: the source's logits of windows.
            head: what the logits stand for.
            batch_freely: whether more windows may go through the network at once than the inferer hands over: only where the
                network is given nothing that belongs to single windows.
        """
        shortlisted = self.shortlist.kept
        if self.budget is None or len(shortlisted) <= self.budget:
            return [c.window for c in shortlisted]
        best = WindowShortlist(self.budget)
        at_once = max(self.batch, windows_at_once(shortlisted[0].window) if batch_freely else 1)
        for start in range(0, len(shortlisted), at_once):
            some = shortlisted[start : start + at_once]
            for candidate, logits in zip(some, _logits_of_each([c.window for c in some], predict), strict=True):
                score = informativeness(logits, head) * candidate.score
                best.offer(ScoredWindow(candidate.window, candidate.place, score))
        return [c.window for c in best.kept]

    def at_least(self, selected: list[Tensor], least: int) -> list[Tensor]:
        """The selected windows; where these are fewer than ``least``, all shortlisted ones of their size.

        Guards look at these, and must see more than a single window shows.
        """
        if len(selected) >= least:
            return selected
        return [c.window for c in self.shortlist.kept if c.window.shape == selected[0].shape]


@torch.no_grad()
def _logits_of_each(windows: list[Tensor], predict: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Logits of each window, of all at once where the network has one answer for each (a promptable one may have more)."""
    if len({w.shape for w in windows}) == 1:
        logits = predict(torch.cat(windows))
        if len(logits) == len(windows):
            return list(logits.split(1))
    return [predict(w) for w in windows]
