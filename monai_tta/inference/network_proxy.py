"""What other code is handed in the network's place: a module that looks like the network, and asks us for every answer.

An inferer may do anything with the network that it is handed: move it, set its mode, read its layers, load weights into it. So
that the source never answers unnoticed, and never changes, all of this meets a module of our own. It is of the network's class
and has copies of all its layers and tensors, but its layers compute nothing.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from monai_tta.compute.containers import map_tensors
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import copy_sharing_parameters
from monai_tta.inference.network import Network, unwrap
from monai_tta.inference.network_state import NetworkState

Answer = Callable[[Tensor, tuple[Any, ...], dict[str, Any]], Any]
# What torch reads of a module when it is called, and what tells its type: none of this belongs to the network's own state.
_OF_A_CALL = frozenset(
    "_stand_in forward training call_super_init _call_impl _wrapped_call_impl _slow_forward _compiled_call_impl __class__ "
    "_backward_hooks _backward_pre_hooks _forward_hooks _forward_hooks_with_kwargs _forward_hooks_always_called "
    "_forward_pre_hooks _forward_pre_hooks_with_kwargs compile".split()
)
_OWN_HOOKS = {name for name in _OF_A_CALL if name.endswith(("_hooks", "_with_kwargs", "_always_called"))}


class NetworkProxy(nn.Module):
    """A module in the network's place. Each call of it comes to ``answer``; everything else belongs to the proxy alone.

    Until something else than a call is asked of it, it holds nothing. Then it gets copies of the network's layers, with tensors
    of their own. It can be moved to another device or dtype, and answers there, as the network would. It refuses, with the
    reason, what an adapted answer could not show: layers that are run by themselves, other weights, hooks on layers, training
    mode.

    Args:
        network: what the inferer was handed.
        answer: ``(windows, args, kwargs) -> outputs``.
        only_looks_at_windows: whether what the inferer puts together is thrown away.

    Raises:
        CannotAdapt: for a network whose layers cannot be seen, or whose class allows no subclass.
    """

    stands_in_for_a_network = True
    _stand_in: _StandIn

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A proxy of the network's own class; plain networks where the network's own code makes more of its kind."""
        if cls is not NetworkProxy:
            return cls.__mro__[2](*args, **kwargs)
        return object.__new__(_class_for(type(unwrap(args[0]))))

    def __init__(self, network: Network, answer: Answer, only_looks_at_windows: bool = False) -> None:
        object.__setattr__(self, "_stand_in", _StandIn(network, answer, only_looks_at_windows))
        nn.Module.__init__(self)
        object.__setattr__(self, "training", False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Tell the windows from what else the network is given, and answer them."""
        stand_in = self._stand_in
        if args:
            return stand_in.ask(self, args[0], args[1:], kwargs)
        tensors = [k for k, v in kwargs.items() if isinstance(v, Tensor)]
        if not tensors:
            raise TypeError("the inferer called the network without a tensor")
        key = max(tensors, key=lambda k: (kwargs[k].is_floating_point(), kwargs[k].ndim))  # prompts have fewer dimensions
        return stand_in.ask(self, kwargs[key], (), {k: v for k, v in kwargs.items() if k != key})

    __call__ = nn.Module.__call__  # a network's own would do its work twice: here and in the shadow

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a compiled network answers the same, and what answers is not in here."""

    def __getattribute__(self, name: str) -> Any:
        stand_in: _StandIn = object.__getattribute__(self, "__dict__").get("_stand_in")
        if name == "__class__":
            return stand_in.kind
        if name not in _OF_A_CALL:
            stand_in.fill(self)
            if name in ("module", "_orig_mod") and stand_in.is_wrapped:
                return self
        value = super().__getattribute__(name)
        if name == "forward" and "torch._dynamo" in sys.modules:  # a compiled proxy must not compile what is behind it
            return torch.compiler.disable(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_stand_in").fill(self)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        object.__getattribute__(self, "_stand_in").fill(self)
        super().__delattr__(name)

    def __deepcopy__(self, memo: dict[int, Any]) -> NetworkProxy:
        memo[id(self)] = twin = self._stand_in.twin(self)
        return twin

    def __copy__(self) -> NetworkProxy:
        return self._stand_in.twin(self)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._stand_in.refuse("sends the network that it is handed to another process or into a file")


class _Tally:
    """What an inferer has done with a proxy and its copies: how often it called them, and what was refused."""

    n_calls = 0
    refusal: str | None = None


class _StandIn:
    """What a proxy knows: whom to ask, and what the network was like."""

    def __init__(self, network: Network, answer: Answer, only_looks_at_windows: bool) -> None:
        self.tally = _Tally()
        self.network = network
        self.source = unwrap(network)
        self.kind = type(self.source)
        self.is_wrapped = network is not self.source
        self.answer = answer
        self.only_looks_at_windows = only_looks_at_windows
        self.before: NetworkState | None = None

    def ask(self, proxy: NetworkProxy, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer windows, where the proxy is now and in its dtype."""
        self.tally.n_calls += 1
        there = self._moved_to(proxy)
        if there is None:
            return self.answer(windows, args, kwargs)
        here = next(p for p in self.source.parameters() if p.is_floating_point())
        windows, args, kwargs = map_tensors(partial(_moved, here, there.dtype), (windows, args, kwargs))
        return map_tensors(partial(_moved, there, here.dtype), self.answer(windows, args, kwargs))

    def fill(self, proxy: NetworkProxy) -> None:
        """Give the proxy copies of the network's layers, once."""
        if self.before is not None:
            return
        self.before = NetworkState(self.source)
        with torch.inference_mode(False), torch.no_grad():
            copied = copy_sharing_parameters(self.source)
            for ours, theirs in zip(copied.parameters(), self.source.parameters(), strict=True):
                ours.data = ours.data.clone()
                ours.requires_grad_(theirs.requires_grad)
        for path, module in copied.named_modules():
            vars(module)["forward"] = partial(self._refuse_layer, path)
            vars(module)["training"] = False
        kept = {name: value for name, value in vars(copied).items() if name != "forward" and name not in _OWN_HOOKS}
        object.__getattribute__(proxy, "__dict__").update(kept)

    def twin(self, proxy: NetworkProxy) -> NetworkProxy:
        """A copy of the proxy, where nothing but its place and dtype has changed."""
        twin = NetworkProxy(self.network, self.answer, self.only_looks_at_windows)
        twin._stand_in.tally = self.tally
        if self.before is not None:
            there = self._moved_to(proxy)
            if any(getattr(proxy, name) for name in _OWN_HOOKS):
                self.refuse("puts a hook on the network that it is handed, and copies it")
            if there is not None:
                twin.to(there.device, there.dtype)
        return twin

    def refuse(self, what: str) -> NoReturn:
        """Refuse what the inferer does; also on record, because the inferer may catch the error."""
        self.tally.refusal = (
            f"the inferer {what}, which an adapted answer could not show; give AdaptiveInferer the network as it is to answer, "
            "and an inferer that only calls it"
        )
        raise CannotAdapt(self.tally.refusal)

    def _refuse_layer(self, path: str, *_: Any, **__: Any) -> NoReturn:
        self.refuse(f"runs a part of the network by itself ({path or 'another copy of it'})")

    def _moved_to(self, proxy: NetworkProxy) -> Tensor | None:
        """A tensor of the place and dtype that the proxy was moved to; None where it was not.

        Raises:
            CannotAdapt: where anything else about it has changed.
        """
        if self.before is None:
            return None
        if (change := self.before.change_in(proxy, self.source)) is not None:
            self.refuse(change)
        for name, theirs in self.source.named_parameters():
            ours = proxy.get_parameter(name)
            if theirs.is_floating_point():
                return ours if (ours.dtype, ours.device) != (theirs.dtype, theirs.device) else None
        return None


def only_looks_at_windows(network: Any) -> bool:
    """Whether what an inferer puts together of this network's answers is thrown away, because its windows alone are of interest.

    One that also asks about mirrored copies of each window need not do so then.

    Args:
        network: what the inferer was handed, a proxy or not.
    """
    return isinstance(network, NetworkProxy) and network._stand_in.only_looks_at_windows


def _moved(like: Tensor, only: torch.dtype, value: Any) -> Any:
    """A leaf at the place of a tensor; in its dtype, too, where it has the one of the other place."""
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.dtype == only else value.dtype)


def _class_for(kind: type[nn.Module]) -> type[NetworkProxy]:
    """A proxy class that is also of the network's class."""

    @wraps(kind.forward)  # inferers read the signature
    def forward(self: NetworkProxy, *args: Any, **kwargs: Any) -> Any:
        return NetworkProxy.forward(self, *args, **kwargs)

    try:
        members = {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__}
        return types.new_class(kind.__name__, (NetworkProxy, kind), exec_body=lambda space: space.update(members))
    except Exception as error:  # a class may refuse to have subclasses in any way
        raise CannotAdapt(f"{kind.__name__} allows no class after it, by which it could be stood in for: {error}") from error
