"""A learned optimiser: a small recurrent network makes each step from the gradients so far, in place of a fixed rule.

It is the gradient memory of MGG (Deng et al., "Learning to Generate Gradients for Test-Time Adaptation via Test-Time Training
Layers", AAAI 2025, arXiv 2412.16901). One network of 164 numbers serves every coordinate of every moving tensor. Each coordinate
has a memory of its own: running means of its gradient and of the square, and a linear map that learns one step per gradient to
reconstruct what the network made of that gradient (a test-time-training layer).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = 8
WEIGHT_SHAPES: dict[str, tuple[int, ...]] = {
    "query": (HIDDEN, 2),
    "key": (HIDDEN, 2),
    "value": (HIDDEN, 2),
    "inner_weight": (HIDDEN, HIDDEN),  # where each coordinate's linear map starts
    "inner_bias": (HIDDEN,),
    "inner_scale": (HIDDEN,),
    "inner_shift": (HIDDEN,),
    "rate_weight": (2,),
    "rate_bias": (),
    "rate_offset": (),
    "outer_scale": (HIDDEN,),
    "outer_shift": (HIDDEN,),
    "output": (HIDDEN,),
}
_BETAS = (0.9, 0.99)
_EPS = 1e-8  # beside the root of the mean square
_NORM_EPS = 1e-6
Weights = Mapping[str, Tensor]
Memory = dict[str, Any]  # "step": int; "mean", "square": (n,); "weight": (n, 8, 8); "bias": (n, 8)


def untrained_weights(seed: int) -> dict[str, Tensor]:
    """Weights as training starts from: the paper's for the linear map and the rate, torch's usual ones for projections."""
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.zeros(shape) for name, shape in WEIGHT_SHAPES.items()}
    for name in ("inner_scale", "outer_scale"):
        weights[name] += 1
    for name in ("inner_weight", "rate_weight"):
        weights[name].normal_(0, 0.02, generator=generator)
    for name in ("query", "key", "value", "output"):
        bound = weights[name].shape[-1] ** -0.5
        weights[name].uniform_(-bound, bound, generator=generator)
    return weights


def check_weights(weights: Weights) -> None:
    """Refuse weights of other names or shapes, or ones that are not finite.

    Raises:
        ValueError: for these.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if shapes != WEIGHT_SHAPES:
        wrong = sorted(name for name in {*shapes, *WEIGHT_SHAPES} if shapes.get(name) != WEIGHT_SHAPES.get(name))
        raise ValueError(f"a learned optimiser has other weights than these: {', '.join(wrong)}")
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise ValueError("a learned optimiser's weights must be finite")


def empty_memory(weights: Weights, like: Tensor) -> Memory:
    """The memory before the first gradient, for as many coordinates as ``like`` ``(n,)`` has, with its dtype and device."""
    n = len(like)
    start = {name: weights[name].to(like) for name in ("inner_weight", "inner_bias")}
    return {
        "step": 0,
        "mean": torch.zeros_like(like),
        "square": torch.zeros_like(like),
        "weight": start["inner_weight"].expand(n, -1, -1),
        "bias": start["inner_bias"].expand(n, -1),
    }


def propose(weights: Weights, memory: Memory, gradient: Tensor) -> tuple[Tensor, Memory]:
    """The direction in which to go down, in (-1, 1) per coordinate, and the memory afterwards.

    Differentiable with respect to the weights. The published rule moves a coordinate whose gradient is exactly zero, too,
    because its network has shifts. Here such a coordinate stays where it is (ours), while its memory goes on: a channel that
    took no part in a window must not drift.

    Args:
        weights: of the network, see `WEIGHT_SHAPES`.
        memory: of these coordinates, before.
        gradient: ``(n,)``, float32 or float64.
    """
    w = {name: tensor.to(gradient) for name, tensor in weights.items()}
    step = memory["step"] + 1
    mean = _BETAS[0] * memory["mean"] + (1 - _BETAS[0]) * gradient
    square = _BETAS[1] * memory["square"] + (1 - _BETAS[1]) * gradient**2
    # As in the authors' code, the bias correction is one step ahead of the step's number.
    root = (square / (1 - _BETAS[1] ** (step + 1))).sqrt() + _EPS
    inputs = torch.stack([mean / (1 - _BETAS[0] ** (step + 1)) / root, gradient / root], -1)
    query, key, value = (inputs @ w[name].T for name in ("query", "key", "value"))
    rate = torch.sigmoid(inputs @ w["rate_weight"] + w["rate_bias"]) / HIDDEN * (1 + w["rate_offset"]).clamp_min(0)
    error = _reconstruction_gradient(_mapped(key, memory), value - key, w["inner_scale"], w["inner_shift"])
    after = {
        "step": step,
        "mean": mean,
        "square": square,
        "weight": memory["weight"] - rate[:, None, None] * key[:, :, None] * error[:, None, :],
        "bias": memory["bias"] - rate[:, None] * error,
    }
    recalled = query + F.layer_norm(_mapped(query, after), (HIDDEN,), w["inner_scale"], w["inner_shift"], _NORM_EPS)
    normed = F.layer_norm(recalled, (HIDDEN,), w["outer_scale"], w["outer_shift"], _NORM_EPS)
    direction = torch.tanh(normed @ w["output"])
    return torch.where(gradient == 0, torch.zeros_like(direction), direction), after


def _mapped(x: Tensor, memory: Memory) -> Tensor:
    """Each coordinate's ``(n, 8)`` through its own linear map."""
    out: Tensor = torch.einsum("ni,nij->nj", x, memory["weight"]) + memory["bias"]
    return out


def _reconstruction_gradient(z: Tensor, target: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Gradient of ``|layer_norm(z) - target|^2 / 2`` with respect to z; all ``(n, 8)``."""
    inverse_std = (z.var(-1, correction=0, keepdim=True) + _NORM_EPS).rsqrt()
    normed = (z - z.mean(-1, keepdim=True)) * inverse_std
    error = scale * (normed * scale + shift - target)
    return inverse_std * (error - error.mean(-1, keepdim=True) - normed * (error * normed).mean(-1, keepdim=True))


class LearnedOptimizer(torch.optim.Optimizer):
    """Move each coordinate by ``-lr * propose(...)``: by at most ``lr`` per step, whatever the scale of the loss.

    Its state, per moving tensor of n coordinates: 74 numbers per coordinate, so 0.3 kB in float32. The scales and shifts of a
    network's normalisation layers are a few thousand coordinates; all of a network's weights may be too many.

    Args:
        params: tensors of any shapes, or groups of them.
        weights: of the learned network, see `WEIGHT_SHAPES`.
        lr: the learning rate, 0 or more.

    Raises:
        ValueError: for a negative rate, or weights of other shapes.
    """

    def __init__(self, params: Iterable[Any], weights: Weights, lr: float = 1e-3) -> None:
        check_weights(weights)
        if lr < 0:
            raise ValueError(f"lr is 0 or more, found {lr}")
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        super().__init__(params, {"lr": lr, "trained": digest_of(self.weights.values())})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every tensor that has a gradient. Tensors without one, and coordinates with a zero, stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    self._move(tensor, group["lr"])
        return loss

    def _move(self, tensor: Tensor, lr: float) -> None:
        gradient = tensor.grad.flatten()  # type: ignore[union-attr]
        wide = gradient if gradient.dtype == torch.float64 else gradient.float()
        memory = self.state[tensor] or empty_memory(self.weights, wide)
        # A state that was saved and loaded has the dtype of its tensor.
        memory = {name: part if name == "step" else part.to(wide.dtype) for name, part in memory.items()}
        direction, memory = propose(self.weights, memory, wide)
        self.state[tensor] = memory
        tensor.sub_((lr * direction).view(tensor.shape).to(tensor.dtype))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state of the same learned optimiser.

        Raises:
            ValueError: for a state of another one.
        """
        own = {group["trained"] for group in self.param_groups}
        if {group.get("trained") for group in state_dict["param_groups"]} != own:
            raise ValueError("the saved state is of another learned optimiser, or of none")
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": self.weights}


def digest_of(tensors: Iterable[Tensor]) -> str:
    """A short hash of the shapes and float32 values of some tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
