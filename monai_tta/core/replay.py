"""Replay: give parts of a network what the source's parts were once given, and compare what comes out.

A part, here a unit, is any module that takes one tensor of features and returns one. Units are found by watching a forward pass,
so no architecture need be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.compute.precision import at_least_float32
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.shadow import Shadow
from monai_tta.core.stored_features import StoredFeatures

SIDES = {1: 64, 2: 16, 3: 8}  # of a stored piece, in voxels of the features, by the number of axes; 1 is for tokens


class UnitWatcher:
    """Finds a network's units, and shows what they are given for a window.

    A unit takes features ``(1, C, *spatial)`` with more channels than the image, or tokens ``(1, tokens, C)``. What takes the
    image itself is no unit, because no image shall be stored; its parts may be. Of units inside each other the outermost counts,
    if it works on small pieces of features.

    Args:
        source: the network, unwrapped; a private copy is watched, in eval mode.
        window: ``(1, C, *spatial)``, by which units are found.

    Attributes:
        names: the units, in the order in which the network lists them.

    Raises:
        CannotAdapt: for a network without units, or one that cannot be copied.
    """

    def __init__(self, source: nn.Module, window: Tensor) -> None:
        self.shadow = Shadow(source, "softmax", None)
        self.names = [name for name, _ in self.shadow.module.named_modules()]
        pieces = self.pieces(window, seed=0)
        self.names = list(_units(self.shadow.module, "", pieces))
        if not self.names:
            raise CannotAdapt(
                f"{self.shadow.kind} has no part that takes one tensor of features and returns one, so nothing can be rehearsed"
            )

    def pieces(self, window: Tensor, seed: int) -> dict[str, Tensor]:
        """For each unit a piece ``(1, C, *piece)`` of what it is given for a window, at a place that the seed draws.

        Args:
            window: ``(1, C, *spatial)``.
            seed: of the place.
        """
        place = torch.rand(window.ndim - 2, generator=torch.Generator().manual_seed(seed)).tolist()
        return self._watch(window, partial(_piece, place=place))

    def means(self, window: Tensor) -> Tensor:
        """What the units are given for a window, each channel's mean over voxels (or tokens), of all units in a row."""
        means = self._watch(window, lambda features: features.float().mean(_positions(features)).flatten())
        return torch.cat(list(means.values())).cpu()

    @torch.no_grad()
    def _watch(self, window: Tensor, keep: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What ``keep`` makes of the features that each unit is given first."""
        found: dict[str, Tensor | None] = {}

        def before(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in found:  # a module that is called again is rehearsed with what it was given first
                fits = len(args) == 1 and not kwargs and _is_features(args[0], window)
                found[name] = keep(args[0].detach()).clone() if fits else None  # it may write over its input

        def after(name: str, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if not isinstance(output, Tensor):
                found[name] = None

        modules = {name: self.shadow.module.get_submodule(name) for name in self.names}
        hooks = [m.register_forward_pre_hook(partial(before, name), with_kwargs=True) for name, m in modules.items()]
        hooks += [m.register_forward_hook(partial(after, name)) for name, m in modules.items()]
        try:
            self.shadow(window)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: kept for name in self.names if (kept := found.get(name)) is not None}


class Replay:
    """Stored source features, and both networks' units to give them to: the shadow's, which move, and the source's.

    Both normalise by the source's running statistics where a layer has some, whatever the shadow's images need: stored features
    are the source's. Other layers (InstanceNorm) normalise by each piece's own statistics.

    Args:
        shadow: whose moving tensors are to be kept near the source's function.
        source: the network that the features come from, unwrapped.
        stored: its features.

    Raises:
        CannotAdapt: when no unit holds anything that moves.
    """

    def __init__(self, shadow: Shadow, source: nn.Module, stored: StoredFeatures) -> None:
        student = Shadow(source, shadow.head, None).module
        teacher = Shadow(source, shadow.head, None).module
        for name, tensor in shadow.module.named_parameters(remove_duplicate=False):
            if tensor.requires_grad:  # the moving tensor itself, not a copy: the two move together
                place, _, own_name = name.rpartition(".")
                student.get_submodule(place)._parameters[own_name] = tensor
        self.units: list[tuple[nn.Module, nn.Module, Tensor]] = []
        for name, pieces in stored.units.items():
            unit = student.get_submodule(name)
            like = next(unit.parameters(), None)
            if like is not None and any(tensor.requires_grad for tensor in unit.parameters()):
                self.units.append((unit, teacher.get_submodule(name), pieces.to(like.device, like.dtype)))
        if not self.units:
            raise CannotAdapt(
                f"{shadow.kind} has nothing to rehearse: what moves is in none of the parts whose source features are stored"
            )

    def distance(self, seed: int | None) -> Tensor:
        """How far the shadow's units are from the source's on stored features, mixed in pairs.

        Args:
            seed: of the pairs and of their shares, which are uniform in [0, 1]; None does not mix.

        Returns:
            the mean over units of the squared difference, as a fraction of the variance of what the source's unit returns. 0 or
            more; 0 where nothing has moved.
        """
        distances = []
        for student, teacher, pieces in self.units:
            given = pieces if seed is None else mixed(pieces, seed)
            with torch.no_grad():
                wanted = at_least_float32(teacher(given.clone()))  # a unit may write over its input
            difference = at_least_float32(student(given.clone())) - wanted
            distances.append(difference.square().mean() / wanted.var(correction=0).clamp_min(1e-12))
        return torch.stack(distances).mean()


def mixed(pieces: Tensor, seed: int) -> Tensor:
    """Each sample of ``(N, ...)`` mixed with another one: ``share * x + (1 - share) * x[order]``, with a share of its own."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(len(pieces), generator=generator).to(pieces).view(-1, *[1] * (pieces.ndim - 1))
    order = torch.randperm(len(pieces), generator=generator).to(pieces.device)
    return share * pieces + (1 - share) * pieces[order]


def _is_features(value: Any, window: Tensor) -> bool:
    """Whether a value is features of a window, and not the image in any form."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or len(value) != len(window):
        return False
    return value.ndim == 3 or (value.ndim == window.ndim and value.shape[1] > window.shape[1])


def _positions(features: Tensor) -> list[int]:
    """The axes along which a unit's voxels lie: those behind the channels, or the middle one of tokens."""
    return [1] if features.ndim == 3 else list(range(2, features.ndim))


def _piece(features: Tensor, place: list[float]) -> Tensor:
    """A piece of features, at a place in [0, 1] along each axis."""
    axes = _positions(features)
    for axis, share in zip(axes, place, strict=False):
        side = min(SIDES[len(axes)], features.shape[axis])
        features = features.narrow(axis, round(share * (features.shape[axis] - side)), side)
    return features


def _units(module: nn.Module, name: str, pieces: dict[str, Tensor]) -> Iterator[str]:
    """The outermost modules that hold parameters and can be given the pieces by themselves."""
    if name in pieces and next(module.parameters(), None) is not None and _answers(module, pieces[name]):
        yield name
        return
    for child_name, child in module.named_children():
        yield from _units(child, f"{name}.{child_name}" if name else child_name, pieces)


@torch.no_grad()
def _answers(module: nn.Module, piece: Tensor) -> bool:
    try:
        return bool(module(piece.clone()).isfinite().all())
    except Exception:  # whatever a module makes of a piece that is smaller than what it is used to
        return False
