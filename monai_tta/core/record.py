"""What happened: frozen records of cases and steps, JSON both ways; no tensors, no names, no paths, no pixels."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


def peak_memory() -> float | None:
    """The process's highest resident size so far, in MiB; None on Windows."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of learning: the losses in nats, the cosine of the two gradients, and the learning rate used; ``notes`` are
    other figures that a method wants on record."""

    losses: dict[str, float] = field(default_factory=dict)
    cosine: float | None = None
    lr: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image answered.

    ``moving`` scalars were free to move, found by ``selected``; ``travelled`` is their Euclidean distance from the
    source's; ``changed`` the share of voxels whose label differs from the plain answer's, in [0, 1]; times are in seconds.
    ``changed`` and ``seconds_plain`` are None where nobody asked for a plain answer: a guard does.
    ``reborn`` says why a continual stream was begun anew with this case (None: it was not).
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
    precision: str = "exact"
    budget: int | None = None
    n_windows: int = 0
    n_moving: int = 0
    selected: str | None = None
    steps: tuple[Step, ...] = ()
    weight_distance: float = 0.0
    changed_fraction: float | None = None
    seconds: float = 0.0
    seconds_unadapted: float | None = None
    peak_memory: float | None = None
    reason: str | None = None
    restarted: str | None = None

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
