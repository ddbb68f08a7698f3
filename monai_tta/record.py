"""What happened: frozen records of cases and steps, JSON both ways; no tensors, no names, no paths, no pixels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of learning: the losses in nats, the cosine of the two gradients, and the learning rate used."""

    losses: dict[str, float] = field(default_factory=dict)
    cosine: float | None = None
    rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image answered.

    ``moving`` scalars were free to move, found by ``selected``; ``travelled`` is their Euclidean distance from the
    source's; ``changed`` the share of voxels whose label differs from the plain answer, in [0, 1]; times are in seconds;
    ``peak_memory`` is the process's highest resident size so far in MiB (None on Windows). ``reason`` says why an image
    was answered plainly (None: it was adapted).
    """

    number: int
    network: str
    method: str
    head: str
    learn: str
    reset: str
    seed: int
    shape: tuple[int, ...]
    budget: int | None = None
    taught: int = 0
    moving: int = 0
    selected: str | None = None
    steps: tuple[Step, ...] = ()
    travelled: float = 0.0
    changed: float = 0.0
    seconds: float = 0.0
    seconds_plain: float = 0.0
    peak_memory: float | None = None
    reason: str | None = None

    @property
    def adapted(self) -> bool:
        """Whether the answer is the adapted one."""
        return self.reason is None

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read `to_json` back; equal to what was written.

        Raises:
            ValueError: when the text is no JSON object of a case.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["shape"] = tuple(raw["shape"])
            raw["steps"] = tuple(Step(**step) for step in raw["steps"])
            return cls(**raw)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the record of a case: {error}") from error
