"""A shadow that remembers something of earlier cases, for methods that compare the present one with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_tta.core.normalization import StatisticsFrom
from monai_tta.core.objectives import Head
from monai_tta.core.selection import Selection
from monai_tta.core.shadow import Shadow


class BankShadow(Shadow):
    """A shadow with a bank, which is saved with a stream.

    Attributes:
        bank: keys by which earlier cases are found again, each with what is remembered of the case; the latest ``bank_size``.
    """

    def __init__(
        self,
        source: nn.Module,
        head: Head,
        select: Selection | None,
        statistics: StatisticsFrom,
        blend: float,
        bank_size: int,
    ) -> None:
        super().__init__(source, head, select, statistics, blend)
        self.bank: deque[tuple[Tensor, Any]] = deque(maxlen=bank_size)

    def state(self) -> dict[str, Any]:
        """What the stream has learnt, with the bank."""
        return super().state() | {"bank": list(self.bank)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.bank.extend((key, remembered) for key, remembered in state["bank"])
