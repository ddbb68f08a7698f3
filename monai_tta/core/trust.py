"""Trust: how much of the learning rate to use, from the cosine of the angle between two gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from math import exp, log1p
from struct import pack

__all__ = ["Trust", "SquaredTrust", "LinearTrust", "SoftplusTrust", "RandomSign"]


class Trust(ABC):
    """A factor on the learning rate, from the cosine of the angle between two gradients."""

    @abstractmethod
    def __call__(self, cosine: float) -> float:
        """The factor, 0 or more, for a cosine in [-1, 1]."""


@dataclass(frozen=True)
class SquaredTrust(Trust):
    """``(c + 1)^2 / 4`` in [0, 1]: the one that GraTa uses."""

    def __call__(self, cosine: float) -> float:
        """The factor for a cosine."""
        return (cosine + 1) ** 2 / 4


@dataclass(frozen=True)
class LinearTrust(Trust):
    """``(c + 1) / 2`` in [0, 1]."""

    def __call__(self, cosine: float) -> float:
        """The factor for a cosine."""
        return (cosine + 1) / 2


@dataclass(frozen=True)
class SoftplusTrust(Trust):
    """``log(1 + e^c)`` in [0.31, 1.31]."""

    def __call__(self, cosine: float) -> float:
        """The factor for a cosine."""
        return log1p(exp(cosine))


@dataclass(frozen=True)
class RandomSign(Trust):
    """``inner(c)`` or ``inner(-c)``, by tossing a coin: an ablation, which ignores whether gradients agree or oppose each other.

    The coin is a hash of seed and cosine. Nothing is kept between calls, and the same cosine always gets the same side.

    Args:
        seed: of the coin.
        inner: the trust that it is tossed for.
    """

    seed: int = 0
    inner: Trust = SquaredTrust()

    def __call__(self, cosine: float) -> float:
        """The factor for a cosine."""
        is_heads = sha256(pack("<qd", self.seed, cosine)).digest()[0] % 2
        return self.inner(cosine if is_heads else -cosine)
