"""The rows of a stream: the answer of one contender to one case, to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

BACK = 0  # the round that returns to the source domain


@dataclass(frozen=True)
class StreamRow:
    """The answer of one contender to one case of a stream.

    ``dice`` is per label, in [0, 1], NaN for a label that is not in the image. ``weight_distance``, ``reason`` (of an unadapted
    answer) and ``restarted`` are from the answer's record. ``seconds`` is the time for the answer.
    """

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
        """One JSON object, with null for NaN."""
        return json.dumps(asdict(self) | {"dice": [None if isnan(d) else round(d, 6) for d in self.dice]})

    @classmethod
    def from_json(cls, text: str) -> StreamRow:
        """Read what `to_json` wrote.

        Raises:
            ValueError: when the text is not the JSON object of a row.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(**raw | {"dice": tuple(nan if d is None else d for d in raw["dice"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the row of a stream: {error}") from error
