"""How two objectives' gradients agree, as a whole or layer by layer, and what to do where they oppose each other.

``layers`` names for each moving tensor the layer that it belongs to (`Shadow.layers`). A layer's gradients are one long vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from monai_tta.core.gradients import Gradient, cosine, length, product
from monai_tta.core.shadow import Shadow


def mean_direction_of(
    tasks: Sequence[Callable[[Shadow, Tensor], Tensor]], shadow: Shadow, windows: Tensor
) -> tuple[dict[str, float], Gradient]:
    """The losses of some auxiliary objectives on windows ``(N, C, *spatial)``, and their gradients as one.

    Args:
        tasks: the objectives, one or more.
        shadow: the network that adapts.
        windows: ``(N, C, *spatial)``.

    Returns:
        the values by name, "auxiliary", "auxiliary 2" and so on; and `mean_direction` of the gradients.
    """
    found = [shadow.gradient(task, windows) for task in tasks]
    losses = {f"auxiliary {n}" if n > 1 else "auxiliary": value for n, (value, _) in enumerate(found, 1)}
    return losses, mean_direction([gradient for _, gradient in found])


def mean_direction(gradients: Sequence[Gradient]) -> Gradient:
    """The mean of the gradients' unit vectors, times the mean of their lengths; a single gradient as it is.

    So an objective in other units does not outvote the others, and a look-ahead in multiples of the gradient keeps its meaning.
    A gradient of zero has no direction and takes no part.

    Args:
        gradients: one or more.
    """
    some = [gradient for gradient in gradients if length(gradient) > 0]
    if len(some) < 2:
        return (some or list(gradients))[0]
    mean_length = sum(map(length, some)) / len(some)
    factors = [mean_length / (len(some) * length(gradient)) for gradient in some]
    total: Gradient = [None] * len(some[0])
    for factor, gradient in zip(factors, some, strict=True):
        parts = [None if part is None else factor * part for part in gradient]
        total = [b if a is None else a if b is None else a + b for a, b in zip(total, parts, strict=True)]
    return total


def cosines(a: Gradient, b: Gradient, layers: Sequence[str]) -> dict[str, float]:
    """The cosine of the angle between two gradients in each layer, in [-1, 1], in the order of the layers.

    Args:
        a: a gradient.
        b: another.
        layers: the layer of each moving tensor.
    """
    return {layer: cosine(_part(a, layers, layer), _part(b, layers, layer)) for layer in dict.fromkeys(layers)}


def without_conflict(gradient: Gradient, other: Gradient, layers: Sequence[str]) -> Gradient:
    """A gradient without its part against another one, where the two oppose each other.

    In each layer in which the cosine is negative, ``g - (g . o / |o|^2) o``: the projection on the plane orthogonal to the other
    gradient (Yu et al., NeurIPS 2020, arXiv 2001.06782). Elsewhere it stays.

    Args:
        gradient: g.
        other: o.
        layers: the layer of each moving tensor.
    """
    shares = {}
    for layer in dict.fromkeys(layers):
        along = product(_part(gradient, layers, layer), _part(other, layers, layer))
        shares[layer] = along / product(*[_part(other, layers, layer)] * 2) if along < 0 else 0.0
    return [
        g if g is None or o is None or not shares[layer] else g - shares[layer] * o
        for g, o, layer in zip(gradient, other, layers, strict=True)
    ]


def _part(gradient: Gradient, layers: Sequence[str], layer: str) -> Gradient:
    """A gradient's entries of one layer."""
    return [part for part, name in zip(gradient, layers, strict=True) if name == layer]
