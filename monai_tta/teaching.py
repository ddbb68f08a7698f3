"""Which windows teach: usable ones, as full as the fullest, uncertain or with much foreground, spread over the volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from monai_tta.objectives import full_entropy, probabilities


def usable(windows: Tensor) -> bool:
    """Whether every window is finite and none is constant: anything else teaches nothing and can poison weights."""
    flat = windows.flatten(1)
    return bool(flat.isfinite().all()) and bool((flat.amax(1) > flat.amin(1)).all())


def interest(window: Tensor, logits: Tensor, head: Any) -> float:
    """Mean foreground probability plus mean uncertainty, under the source; both per voxel."""
    p = probabilities(logits, head)
    foreground = p[:, 1:].sum(1).mean() if head == "softmax" else p.mean()
    return float(foreground) + float(full_entropy(logits, head)) / logits.shape[1]


@dataclass
class Candidates:
    """The best ``budget`` windows of a stream, one from each stretch of it as far as possible.

    Only the kept windows are held in memory. Windows arrive in scanning order, so stretches of the order are stretches
    of the volume. ``fullness`` of a window is its standard deviation: windows of air have next to none.
    """

    budget: int | None
    head: Any
    kept: list[tuple[float, int, Tensor]] = field(default_factory=list)
    seen: int = 0

    def offer(self, window: Tensor, logits: Tensor) -> None:
        """Consider one window ``(1, C, *spatial)`` with the source's logits."""
        self.seen += 1
        if not usable(window):
            return
        score = interest(window, logits, self.head) * float(window.std())
        self.kept.append((score, self.seen, window.clone()))
        if self.budget is not None and len(self.kept) > self.budget:
            self.kept.remove(min(self._crowded(), key=lambda item: item[0]))

    def _crowded(self) -> list[tuple[float, int, Tensor]]:
        """The two neighbours that stand closest in scanning order: one of them is the least loss of spread. Windows
        further apart than their even share are compared by score alone."""
        pairs = list(zip(self.kept, self.kept[1:], strict=False))
        close = min(pairs, key=lambda pair: pair[1][1] - pair[0][1])
        share = self.seen / (len(self.kept) or 1)
        return list(close) if close[1][1] - close[0][1] < share / 2 else self.kept

    def windows(self) -> list[Tensor]:
        """The chosen windows in scanning order."""
        return [window for _, _, window in self.kept]
