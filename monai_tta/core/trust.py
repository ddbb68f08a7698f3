"""How much of the learning rate the cosine of two gradients deserves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from math import exp, log1p
from struct import pack

__all__ = ["Trust", "SquaredTrust", "LinearTrust", "SoftplusTrust", "RandomSign"]


class Trust(ABC):
    """How much of the learning rate a cosine in [-1, 1] deserves."""

    @abstractmethod
    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""


@dataclass(frozen=True)
class SquaredTrust(Trust):
    """``(c + 1)^2 / 4`` in [0, 1]: the map GraTa uses."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return (cosine + 1) ** 2 / 4


@dataclass(frozen=True)
class LinearTrust(Trust):
    """``(c + 1) / 2`` in [0, 1]."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return (cosine + 1) / 2


@dataclass(frozen=True)
class SoftplusTrust(Trust):
    """``log(1 + e^c)`` in [0.31, 1.31]."""

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        return log1p(exp(cosine))


@dataclass(frozen=True)
class RandomSign(Trust):
    """``inner(c)`` or ``inner(-c)``, by a coin: an ablation that keeps how strongly gradients agree and forgets whether.

    The coin is a digest of seed and cosine, so that the same cosine always gets the same side and nothing is remembered.
    """

    seed: int = 0
    inner: Trust = SquaredTrust()

    def __call__(self, cosine: float) -> float:
        """Factor on the learning rate."""
        heads = sha256(pack("<qd", self.seed, cosine)).digest()[0] % 2
        return self.inner(cosine if heads else -cosine)
