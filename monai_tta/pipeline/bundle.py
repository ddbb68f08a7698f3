"""Read a MONAI bundle: its network with its weights, its inferer, its transforms."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.nnunet_files import ModelFolderError, checkpoint_files, is_nnunet_folder, nnunet_advice
from monai_tta.pipeline.shipped_bundles import BUNDLES

__all__ = ["BUNDLES", "BundleError", "SourceBundle", "as_bundle_error", "describe_error", "load_bundle", "read_bundle"]


class BundleError(ValueError):
    """A bundle cannot be used; the message says what is wrong, in which file, and what to do."""


@dataclass
class SourceBundle:
    """The parts of a bundle: config, network with its weights (on ``device``), inferer, and transforms on demand.

    Args:
        parser: of the bundle's inference config.
        network: in eval mode, with its weights.
        inferer: the bundle's own, unadapted.
        device: where the network is.
        about: what was loaded, in a line, where there is more to say than the bundle's name.
        can_calibrate: whether `monai-tta calibrate` can make a gain predictor for it.
    """

    parser: ConfigParser
    network: nn.Module
    inferer: Any
    device: torch.device
    about: str = ""
    can_calibrate: bool = True

    def transforms(self, folder: Path) -> tuple[Any, Any]:
        """Preprocessing, and postprocessing that saves into ``folder``.

        They come as a pair, because `Invertd` undoes only what the very same preprocessing object did.

        Raises:
            BundleError: when they cannot be made.
        """
        self.parser["output_dir"] = str(folder)
        with as_bundle_error("preprocessing and postprocessing", self.parser["bundle_root"]):
            self.parser.parse(reset=True)
            return self.parser.get_parsed_content("preprocessing"), self.parser.get_parsed_content("postprocessing")

    def cases(self, images: Iterable[Path]) -> list[Path]:
        """Which of these images are cases of their own: all of them."""
        return list(images)

    def files_of(self, image: Path) -> list[Path]:
        """All files that the case of an image is made of."""
        return [image]

    def adapt_with(self, method: AdaptationMethod, **options: Any) -> Any:
        """An inferer around the bundle's own, with the keyword arguments of `AdaptiveInferer`."""
        return AdaptiveInferer(method=method, inferer=self.inferer, **options)


def load_bundle(root: Path | str, checkpoint: str | None = "model.pt", device: str | None = None) -> SourceBundle:
    """Resolve ``configs/inference.(yaml|json)`` and load ``models/<checkpoint>`` with ``weights_only=True``.

    A model folder of nnU-Net v2 is loaded like a bundle, see `monai_tta.pipeline.nnunet_folder`.

    Args:
        root: the bundle's folder.
        checkpoint: a file in its ``models``; None for a network without weights.
        device: where the network is moved to, e.g. "cuda:0"; None leaves it where the bundle puts it.

    Raises:
        BundleError: for a missing file or section, or weights that do not fit the network.
        ValueError: for a device that torch does not have here.
    """
    root = Path(root)
    if is_nnunet_folder(root):
        from monai_tta.pipeline.nnunet_folder import load_nnunet_folder  # which imports this file

        return load_nnunet_folder(root, checkpoint, device)
    chosen = None if device is None else usable_device(device)
    parser, config = read_bundle(root)
    sections: dict[str, Any] = cast(dict[str, Any], parser.config)
    if chosen is not None and "device" in sections:
        parser["device"] = f"$torch.device('{chosen}')"
    for name in ("network", "inferer", "preprocessing", "postprocessing"):
        allowed = ("network", "network_def") if name == "network" else (name,)
        if not any(section in sections for section in allowed):
            raise BundleError(f"{config} has no {name!r}; adaptation needs it by that name")
    if "checkpoint" in sections and checkpoint is not None:
        parser["checkpoint"] = checkpoint
    with as_bundle_error("network and inferer", config):
        parser.parse()
        network = parser.get_parsed_content("network" if "network" in sections else "network_def")
        inferer = parser.get_parsed_content("inferer")
    if not isinstance(network, nn.Module) or not callable(inferer):
        kinds = f"{type(network).__name__} and {type(inferer).__name__}"
        raise BundleError(f"{config}: the network must be a torch module and the inferer a callable; found {kinds}")
    if checkpoint is not None:
        _load_weights(network, root / "models" / checkpoint)
    if chosen is not None:
        network = network.to(chosen)
    where = chosen or next((p.device for p in network.parameters()), torch.device("cpu"))
    return SourceBundle(parser, network.eval(), inferer, where)


@contextmanager
def as_bundle_error(what: str, where: Path | str) -> Iterator[None]:
    """Turn any error, while a config is read or its parts are made, into one line that names the file."""
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # a config can run any code, which can raise anything
        raise BundleError(f"{where}: {what} cannot be made of it: {describe_error(error)}") from error


def read_bundle(root: Path) -> tuple[ConfigParser, Path]:
    """Read ``configs/inference.(yaml|yml|json)`` and the bundle's metadata; nothing is built yet.

    Returns:
        the parser, and the config file.

    Raises:
        BundleError: for a folder without that file, or a file that cannot be read.
    """
    candidates = [root / "configs" / f"inference.{ending}" for ending in ("yaml", "yml", "json")]
    config = next((file for file in candidates if file.is_file()), None)
    if config is None:
        advice = nnunet_advice(root)
        raise BundleError(
            f"{root} is not a MONAI bundle for inference: no configs/inference.yaml or .json{advice and '; '}{advice}"
        )
    if (root / "scripts").is_dir() and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))  # `monai.bundle run` in the bundle's folder finds them so
    parser = ConfigParser()
    with as_bundle_error("a bundle", config):
        parser.read_config(str(config))
    metadata = root / "configs" / "metadata.json"
    if metadata.is_file():
        with as_bundle_error("a bundle's description", metadata):
            parser.read_meta(str(metadata))
    if not isinstance(parser.config, dict):
        raise BundleError(f"{config} must hold sections; found {type(parser.config).__name__}")
    parser["bundle_root"] = str(root)
    return parser, config


def source_files(root: Path, checkpoint: str) -> tuple[list[Path], list[Path]]:
    """The files that say what a source is, which may be missing, and the files of its weights.

    Args:
        root: the folder of a bundle, or of an nnU-Net.
        checkpoint: a file in the bundle's ``models``; for an nnU-Net as `checkpoint_files` takes it.

    Raises:
        BundleError: for an nnU-Net without such a checkpoint.
    """
    if not is_nnunet_folder(root):
        configs = ("inference.yaml", "inference.yml", "inference.json", "metadata.json")
        return [root / "configs" / name for name in configs], [root / "models" / checkpoint]
    try:
        return [root / "plans.json", root / "dataset.json"], checkpoint_files(root, checkpoint)
    except ModelFolderError as error:
        raise BundleError(str(error)) from error


def _load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict, also one inside {"model": ...} or {"state_dict": ...}."""
    if not path.is_file():
        raise BundleError(f"{path} does not exist: train the bundle or put its weights there")
    check_unpacked_size(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds; all mean that these are no plain weights
        raise BundleError(f"{path} cannot be read as weights only (damaged, or a pickle of something else)") from error
    for key in ("model", "state_dict"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    try:
        network.load_state_dict(state)
    except Exception as error:  # what a file holds under the names of weights can be anything
        raise BundleError(f"{path} does not fit {type(network).__name__}: {error}") from error
    check_finite(network, path)


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
