"""Read a MONAI bundle: its network with its weights, its inferer, its transforms."""

from __future__ import annotations

import re
import runpy
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.shipped_bundles import BUNDLES

__all__ = ["BUNDLES", "BundleError", "SourceBundle", "describe_error", "load_bundle", "read_bundle"]


class BundleError(ValueError):
    """A bundle lacks something; the message says what, in which file, and what to do."""


@dataclass
class SourceBundle:
    """A bundle's parts, resolved: network with its weights, inferer, and its transforms on demand."""

    parser: ConfigParser
    network: nn.Module
    inferer: Any
    device: torch.device

    def transforms(self, folder: Path) -> tuple[Any, Any]:
        """Pre- and postprocessing, the latter saving into ``folder``. They come as a pair: `Invertd` undoes only what
        the very same preprocessing object did."""
        self.parser["output_dir"] = str(folder)
        with _made_from("preprocessing and postprocessing", self.parser["bundle_root"]):
            self.parser.parse(reset=True)
            return self.parser.get_parsed_content("preprocessing"), self.parser.get_parsed_content("postprocessing")


def load_bundle(root: Path | str, checkpoint: str | None = "model.pt", device: str | None = None) -> SourceBundle:
    """Resolve ``configs/inference.(yaml|json)`` and load ``models/<checkpoint>`` with ``weights_only=True``.

    Args:
        root: the bundle's folder.
        checkpoint: a file in its ``models``; None for a network without weights.
        device: where the network is moved to, e.g. "cuda:0"; None leaves it where the bundle puts it.

    Raises:
        BundleError: for a missing file or section, or weights that do not fit the network.
        ValueError: for a device that torch does not have here.
    """
    root = Path(root)
    chosen = None if device is None else usable_device(device)
    parser, config = read_bundle(root)
    sections: dict[str, Any] = cast(dict[str, Any], parser.config)
    if chosen is not None and "device" in sections:
        parser["device"] = f"$torch.device('{chosen}')"
    for key in ("network", "inferer", "preprocessing", "postprocessing"):
        ids = ("network", "network_def") if key == "network" else (key,)
        if not any(i in sections for i in ids):
            raise BundleError(f"{config} has no {key!r}; adaptation needs it by that name")
    if "checkpoint" in sections and checkpoint is not None:
        parser["checkpoint"] = checkpoint
    with _made_from("network and inferer", config):
        parser.parse()
        network = parser.get_parsed_content("network" if "network" in sections else "network_def")
        inferer = parser.get_parsed_content("inferer")
    if not isinstance(network, nn.Module) or not callable(inferer):
        kinds = f"{type(network).__name__} and {type(inferer).__name__}"
        raise BundleError(f"{config} must make a torch module its network and a callable its inferer; it makes {kinds}")
    if checkpoint is not None:
        _load_weights(network, root / "models" / checkpoint)
    if chosen is not None:
        network = network.to(chosen)
    place = chosen or next((p.device for p in network.parameters()), torch.device("cpu"))
    return SourceBundle(parser, network.eval(), inferer, place)


@contextmanager
def _made_from(what: str, where: Path | str) -> Iterator[None]:
    """Whatever a bundle's config raises while it is read or its parts are made, in one line that names the file."""
    try:
        yield
    except Exception as error:  # a config can run any code, which can raise anything
        raise BundleError(f"{where}: {what} cannot be made of it: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """The innermost message, on one line: MONAI wraps a reader's error in the names of its transforms."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "suitable reader" in str(error):  # MONAI's words advise to install readers, which are installed
        return "no reader of this bundle can read it: damaged, or not an image of a kind it knows"
    if "suitable writer" in str(error):
        first = re.search(r"^[\w.]*(Error|Exception)\b.*$", str(error), re.M)  # of the tracebacks that MONAI makes part of it
        return f"no writer of this bundle can write its mask: {first[0][:300] if first else 'no further word'}"
    if "ITK ERROR: " in str(error):  # before it stands a line of ITK's source
        return " ".join(str(error).split("ITK ERROR: ")[-1].split())[:400]
    words = " ".join(str(error).split()) or ("out of memory" if isinstance(error, MemoryError) else "no further word")
    return f"{type(error).__name__}: {words}"[:400]


def read_bundle(root: Path) -> tuple[ConfigParser, Path]:
    """The parser of ``configs/inference.(yaml|yml|json)`` with the bundle's metadata, and that file; nothing is built yet.

    Raises:
        BundleError: when there is no such file.
    """
    config = next((p for s in ("yaml", "yml", "json") if (p := root / "configs" / f"inference.{s}").is_file()), None)
    if config is None:
        raise BundleError(f"{root} is not a MONAI bundle for inference: no configs/inference.yaml or .json")
    if (root / "scripts").is_dir() and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))  # where `monai.bundle run` in the bundle's folder would find them
    parser = ConfigParser()
    with _made_from("a bundle", config):
        parser.read_config(str(config))
    metadata = root / "configs" / "metadata.json"
    if metadata.is_file():
        with _made_from("a bundle's description", metadata):
            parser.read_meta(str(metadata))
    if not isinstance(parser.config, dict):
        raise BundleError(f"{config} holds no sections but {type(parser.config).__name__}")
    parser["bundle_root"] = str(root)
    return parser, config


def _load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict, also one inside {"model": ...} or {"state_dict": ...}."""
    if not path.is_file():
        raise BundleError(f"{path} does not exist: train the bundle or put its weights there")
    _refuse_bomb(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here; all of them mean: not readable as plain weights
        raise BundleError(f"{path} cannot be read as weights only (damaged, or a pickle of something else)") from error
    for key in ("model", "state_dict"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    try:
        network.load_state_dict(state)
    except Exception as error:  # a file can hold anything under the names of weights
        raise BundleError(f"{path} does not fit {type(network).__name__}: {error}") from error
    parameters = {name for name, _ in network.named_parameters()}  # a buffer may hold infinities: a mask for attention does
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, torch.Tensor) and bool((~tensor.isfinite() if name in parameters else tensor.isnan()).any()):
            raise BundleError(f"{path} holds NaN or infinity in {name}: no answer of such a network would mean anything")


def _refuse_bomb(path: Path) -> None:
    """Torch stores weights as they are, so an archive that unpacks to more than itself is not its work."""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # another format, which torch judges
    if declared > path.stat().st_size:
        raise BundleError(f"{path} unpacks to {declared} bytes, more than it holds: torch.save made no such file")


if __name__ == "__main__":
    # `python -m monai_tta.pipeline.bundle overlay ...` is the command line by another name.
    runpy.run_module("monai_tta", run_name="__main__")
