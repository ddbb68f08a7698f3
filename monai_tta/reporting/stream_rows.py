"""Rows of a stream: one case answered by one contender, JSON both ways."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

BACK = 0  # the round of the return to the source


@dataclass(frozen=True)
class StreamRow:
    """One stop answered by one contender: Dice per label in [0, 1] (NaN for a label that is not in the image), what its record
    says of weights, refusal and rebirth, seconds."""

    contender: str
    kind: str
    order: int
    position: int
    round: int
    domain: str
    case: int
    dice: tuple[float, ...]
    weight_distance: float = 0.0
    reason: str | None = None
    restarted: str | None = None
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> str:
        """One JSON object, null for NaN."""
        return json.dumps(asdict(self) | {"dice": [None if isnan(d) else round(d, 6) for d in self.dice]})

    @classmethod
    def from_json(cls, text: str) -> StreamRow:
        """Read `to_json` back.

        Raises:
            ValueError: when the text is no JSON object of a row.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(**raw | {"dice": tuple(nan if d is None else d for d in raw["dice"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the row of a stream: {error}") from error
