"""Which weights a bundle means, and how they get into its network: all of them, or an error."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from monai_tta.pipeline.bundle_config import NO_CHANGES, BundleError, as_bundle_error, read_parser
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.nnunet_files import CHECKPOINT, NO_CONFIG, is_nnunet_folder

USUAL = "model.pt"
_ENTRIES = ("checkpoint", "ckpt", "ckpt_path", "checkpoint_path", "ckpt_file")  # of a config, where no loader names a file
_WRAPPINGS = ("model", "state_dict", "network", "net", "model_state_dict")  # keys of a file that also holds other things
_PREFIXES = ("module.", "_orig_mod.")  # of networks that were wrapped for training


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint that a bundle's config names.

    Args:
        path: the file.
        by: the id of the entry that names it; empty where none does and the usual place is taken.
        keys: under which the file may hold the network's weights.
    """

    path: Path
    by: str
    keys: tuple[str, ...] = ()


def checkpoint_name(
    root: Path, given: str | None, changes: ConfigChanges = NO_CHANGES, read_elsewhere: Sequence[str] = ()
) -> str:
    """A checkpoint's name in the bundle's ``models``: the one that is given, else the one that the bundle's config names.

    An nnU-Net's is the name of a file in each fold, or ``fold_1/NAME`` for that fold alone.

    Args:
        root: the folder of a bundle, or of an nnU-Net.
        given: what the user named; None for nothing.
        changes: what is laid over the bundle's config.
        read_elsewhere: names of further configs that the same command reads.

    Returns:
        such that ``root / "models" / name`` is a bundle's file.

    Raises:
        BundleError: for a config that cannot be read, or that names several; for changes of an nnU-Net's, which has none.
    """
    if is_nnunet_folder(root):
        if changes:
            raise BundleError(f"{root}: {NO_CONFIG}")
        return given or CHECKPOINT
    if given:
        return given
    named = named_checkpoint(read_parser(root, "inference", changes=changes, read_elsewhere=read_elsewhere), root)
    path = _real(named.path)
    return os.path.relpath(path, _real(root / "models")) if path.is_relative_to(_real(root)) else str(path)


def named_checkpoint(parser: ConfigParser, root: Path) -> NamedCheckpoint:
    """The checkpoint that an inference config names: in a `CheckpointLoader`, else in an entry like ``checkpoint`` or ``ckpt``.

    Args:
        parser: of the config; nothing but the paths is evaluated.
        root: the bundle's folder.

    Raises:
        BundleError: when the config names several, or a path cannot be evaluated.
    """
    found = list(_of_loaders(parser, root)) or list(_of_entries(parser, root))
    paths = {_real(named.path) for named in found}
    if len(paths) > 1:
        each = ", ".join(f"{named.path.name} ({named.by})" for named in found)
        raise BundleError(f"{root.name}'s config names several checkpoints: {each}; choose one with --checkpoint")
    return found[0] if found else NamedCheckpoint(root / "models" / USUAL, "")


def chosen_checkpoint(parser: ConfigParser, root: Path, given: str) -> NamedCheckpoint:
    """The checkpoint of that name, or without one the one that the config names.

    Args:
        parser: of the inference config.
        root: the bundle's folder.
        given: a file in the bundle's ``models``; empty for the config's own.

    Raises:
        BundleError: as `named_checkpoint`, when nothing is given.
    """
    if not given:
        return named_checkpoint(parser, root)
    path = root / "models" / given
    with suppress(BundleError, StopIteration):  # what the config names does not matter then
        return next(named for named in _of_loaders(parser, root) if _real(named.path) == _real(path))
    return NamedCheckpoint(path, "")


def load_weights(network: nn.Module, named: NamedCheckpoint) -> None:
    """Load a state dict with ``weights_only=True``, also one inside {"model": ...} or the like: all of it, or an error.

    Args:
        network: it is changed.
        named: the file.

    Raises:
        BundleError: for a file that is missing or damaged, that holds other tensors than the network has, or NaN.
    """
    path = named.path
    if not path.is_file():
        which = f", which {named.by} of the config names," if named.by else ""
        raise BundleError(f"{path}{which} does not exist: train the bundle or put its weights there")
    check_unpacked_size(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds; all mean that these are no plain weights
        raise BundleError(f"{path} cannot be read as weights only (damaged, or a pickle of something else)") from error
    for key in (*named.keys, *_WRAPPINGS):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if isinstance(state, dict):
        state = _without_prefixes(state)
    wrong = _misfit(network.state_dict(), state)
    try:
        if not wrong:
            network.load_state_dict(state)
    except Exception as error:  # what a file holds under the names of weights can be anything
        wrong = " ".join(str(error).split())[:300]
    if wrong:
        raise BundleError(
            f"{path} does not fit {type(network).__name__}: {wrong}. Nothing was loaded: give the checkpoint of this network, or "
            "the network of this checkpoint (--set, --config)"
        )
    check_finite(network, path)


def _of_loaders(parser: ConfigParser, root: Path) -> Iterator[NamedCheckpoint]:
    """The files of all `CheckpointLoader` that load the network, wherever they stand."""
    for place, section in _sections(parser.config):
        kind = str(section.get("_target_", "")).rsplit(".", 1)[-1]
        if kind != "CheckpointLoader" or "load_path" not in section or _is_disabled(parser, place, section):
            continue
        loaded = section.get("load_dict")
        if isinstance(loaded, dict) and not any("network" in str(value) or "net" in str(value) for value in loaded.values()):
            continue
        keys = tuple(str(key) for key in loaded) if isinstance(loaded, dict) else ()
        yield NamedCheckpoint(_path(parser, f"{place}#load_path", root), f"{place}#load_path", keys)


def _of_entries(parser: ConfigParser, root: Path) -> Iterator[NamedCheckpoint]:
    """The files of entries of the config whose names mean a checkpoint."""
    config: Any = parser.config
    for name in _ENTRIES:
        if isinstance(config.get(name), str):
            yield NamedCheckpoint(_path(parser, name, root), name)


def _sections(config: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All mappings of a config, by id."""
    if isinstance(config, dict):
        yield place, config
    children = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in children:
        yield from _sections(value, f"{place}#{key}" if place else str(key))


def _is_disabled(parser: ConfigParser, place: str, section: Mapping[str, Any]) -> bool:
    """Whether the config switches a section off."""
    if not section.get("_disabled_", False):
        return False
    with as_bundle_error("a checkpoint's path", f"{place}#_disabled_"):
        return str(parser.get_parsed_content(f"{place}#_disabled_")).lower() == "true"


def _path(parser: ConfigParser, entry: str, root: Path) -> Path:
    """The file that an entry names; a relative path is one in the bundle's folder, or in its ``models``."""
    with as_bundle_error("a checkpoint's path", entry):
        text = parser.get_parsed_content(entry)
    if not isinstance(text, str | os.PathLike) or not str(text):
        raise BundleError(f"{entry} of {root.name}'s config should name a checkpoint, found {text!r}; give --checkpoint")
    path = Path(text)
    places = [path] if path.is_absolute() else [root / "models" / path, root / path, path]
    return next((place for place in places if place.is_file()), places[0] if path.parent == Path() else places[-1])


def _real(path: Path) -> Path:
    """A path without links. Unlike `Path.resolve` it takes links in a circle, which lead nowhere."""
    return Path(os.path.realpath(path))


def _without_prefixes(state: dict[Any, Any]) -> dict[Any, Any]:
    """A state dict without what wrappers for training put before every name."""
    for prefix in _PREFIXES:
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _misfit(wanted: Mapping[str, Tensor], state: Any) -> str:
    """How a file's tensors differ from a network's, in words; empty where names and shapes are the same."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}, not tensors by name"
    missing = [name for name in wanted if name not in state]
    extra = [str(name) for name in state if name not in wanted]
    shapes = {name: getattr(state[name], "shape", None) for name in wanted if name in state}
    other = [
        f"{name} {'x'.join(map(str, shapes[name] or ())) or 'no numbers'} for {'x'.join(map(str, tensor.shape)) or 'one number'}"
        for name, tensor in wanted.items()
        if name in shapes and shapes[name] != tensor.shape
    ]
    parts = (("it lacks", missing), ("it has what the network lacks:", extra), ("it has other shapes:", other))
    return "; ".join(f"{what} {_some(names)}" for what, names in parts if names)


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_finite(network: nn.Module, path: Path) -> None:
    """Refuse NaN in weights and buffers, and infinity in weights. A buffer may hold infinity: a mask for attention does."""
    parameters = {name for name, _ in network.named_parameters()}
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, torch.Tensor) and bool((~tensor.isfinite() if name in parameters else tensor.isnan()).any()):
            raise BundleError(f"{path} holds NaN or infinity in {name}: no answer of such a network would mean anything")


def check_unpacked_size(path: Path) -> None:
    """Refuse a zip bomb: torch does not compress weights, so its archives never unpack to more than they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # another format, which torch checks
    if declared > path.stat().st_size:
        raise BundleError(f"{path} unpacks to {declared} bytes, more than it holds: torch.save made no such file")
