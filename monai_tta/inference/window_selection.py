"""Which windows teach: usable ones, as full as the fullest, uncertain or with much foreground, spread over the volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_tta.compute.precision import each_finite
from monai_tta.compute.window_batches import windows_at_once
from monai_tta.core.objectives import full_entropy, probabilities

# How many windows are looked at for each that teaches, where looking at all would cost an answer of the whole volume.
LOOKS = 4


def can_adapt_from(windows: Tensor) -> bool:
    """Whether every window is finite and none is constant: anything else teaches nothing and can poison weights."""
    return bool(_each_usable(windows).all())


def _each_usable(windows: Tensor) -> Tensor:
    flat = windows.flatten(1)
    return each_finite(windows) & (flat.amax(1) > flat.amin(1))


def intensity_std(windows: Tensor) -> Tensor:
    """The standard deviation of each window's voxels, in two passes: `torch.std` takes ten times as long on a CPU."""
    flat = windows.detach().flatten(1)
    return (flat - flat.mean(1, keepdim=True)).square_().mean(1).sqrt()


def informativeness(logits: Tensor, head: Any) -> float:
    """Mean foreground probability plus mean uncertainty, under the source; both per voxel."""
    p = probabilities(logits, head)
    foreground = p[:, 1:].sum(1).mean() if head == "softmax" else p.mean()
    return float(foreground) + float(full_entropy(logits, head)) / logits.shape[1]


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """A window ``(1, C, *spatial)``, its place in scanning order, and how much it promises."""

    window: Tensor
    place: int
    score: float


@dataclass
class WindowShortlist:
    """The best ``size`` windows of a stream, one from each stretch of it as far as possible; None: all of them.

    Only the kept windows are held in memory. Windows arrive in scanning order, so stretches of the order are stretches
    of the volume.
    """

    size: int | None
    kept: list[ScoredWindow] = field(default_factory=list)

    def offer(self, candidate: ScoredWindow) -> None:
        """Consider one window."""
        self.kept.append(candidate)
        if self.size is not None and len(self.kept) > self.size:
            self.kept.remove(min(self._crowded(), key=lambda c: c.score))

    def _crowded(self) -> list[ScoredWindow]:
        """The two neighbours that stand closest in scanning order: one of them is the least loss of spread. Windows
        further apart than half their even share are compared by score alone."""
        close = min(zip(self.kept, self.kept[1:], strict=False), key=lambda pair: pair[1].place - pair[0].place)
        share = self.kept[-1].place / len(self.kept)
        return list(close) if close[1].place - close[0].place < share / 2 else self.kept


class WindowSelector:
    """The windows of one image that will teach, chosen in two rounds.

    All windows are offered. `LOOKS` times as many as will teach are kept by their fullness, which costs nothing: the
    standard deviation, of which windows of air have next to none. Among these, the source's answers choose.
    """

    def __init__(self, budget: int | None) -> None:
        self.budget, self.seen, self.batch = budget, 0, 1
        self.full = WindowShortlist(None if budget is None else LOOKS * budget)

    def offer(self, windows: Tensor) -> None:
        """Consider windows ``(N, C, *spatial)`` in scanning order."""
        self.batch = max(self.batch, len(windows))
        for window, able, full in zip(
            windows.split(1), _each_usable(windows).tolist(), intensity_std(windows).tolist(), strict=True
        ):
            self.seen += 1
            if able:
                self.full.offer(ScoredWindow(window.clone(), self.seen, full))

    def chosen(self, ask: Callable[[Tensor], Tensor], head: Any, free: bool = False) -> list[Tensor]:
        """The windows in scanning order.

        Args:
            ask: the source's logits of windows, as many at once as the inferer asks about.
            head: what the logits stand for.
            free: ask about as many at once as learn at once, if that is more: where the network is given nothing else.
        """
        kept, best = self.full.kept, WindowShortlist(self.budget)
        if self.budget is None or len(kept) <= self.budget:
            return [c.window for c in kept]
        few = max(self.batch, windows_at_once(kept[0].window) if free else 1)
        for start in range(0, len(kept), few):
            some = kept[start : start + few]
            for c, logits in zip(some, _asked([c.window for c in some], ask), strict=True):
                best.offer(ScoredWindow(c.window, c.place, informativeness(logits, head) * c.score))
        return [c.window for c in best.kept]

    def at_least(self, chosen: list[Tensor], least: int) -> list[Tensor]:
        """The chosen windows, or where they are fewer than this all of their size that were looked at: for whoever judges, and
        has to see more than one window shows."""
        if len(chosen) >= least:
            return chosen
        return [c.window for c in self.full.kept if c.window.shape == chosen[0].shape]


@torch.no_grad()
def _asked(windows: list[Tensor], ask: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Logits of each window: of all at once, where the network has one answer for each (a promptable one may have more)."""
    if len({w.shape for w in windows}) == 1:
        logits = ask(torch.cat(windows))
        if len(logits) == len(windows):
            return list(logits.split(1))
    return [ask(w) for w in windows]
