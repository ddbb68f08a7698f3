"""Read a MONAI bundle: its network with its weights, its inferer, its transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle_config import NO_CHANGES, BundleError, as_bundle_error, config_file, read_parser
from monai_tta.pipeline.checkpoint import chosen_checkpoint, load_weights
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.nnunet_files import NO_CONFIG, is_nnunet_folder
from monai_tta.pipeline.shipped_bundles import BUNDLES

OWN = ""  # in place of a checkpoint's name: the one that the bundle's config names

__all__ = ["BUNDLES", "OWN", "BundleError", "SourceBundle", "as_bundle_error", "describe_error", "load_bundle", "read_bundle"]


@dataclass
class SourceBundle:
    """The parts of a bundle: config, network with its weights (on ``device``), inferer, and transforms on demand.

    Args:
        parser: of the bundle's inference config.
        network: in eval mode, with its weights.
        inferer: the bundle's own, unadapted.
        device: where the network is.
        about: what was loaded, in a line, where there is more to say than the bundle's name.
    """

    parser: ConfigParser
    network: nn.Module
    inferer: Any
    device: torch.device
    about: str = ""

    def metadata(self) -> Any:
        """What the bundle's ``metadata.json`` holds; an empty dictionary where there is none."""
        return self.parser.get("_meta_") or {}

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

    def adapt_with(self, method: AdaptationMethod, **options: Any) -> Any:
        """An inferer around the bundle's own, with the keyword arguments of `AdaptiveInferer`."""
        return AdaptiveInferer(method=method, inferer=self.inferer, **options)


def load_bundle(
    root: Path | str,
    checkpoint: str | None = OWN,
    device: str | None = None,
    changes: ConfigChanges = NO_CHANGES,
    read_elsewhere: Sequence[str] = (),
) -> SourceBundle:
    """Resolve ``configs/inference.(yaml|json)`` and load its weights with ``weights_only=True``.

    A model folder of nnU-Net v2 is loaded like a bundle, see `monai_tta.pipeline.nnunet_folder`.

    Args:
        root: the bundle's folder.
        checkpoint: a file in its ``models``; "" for the one that the config names, ``model.pt`` where it names none; None for a
            network without weights.
        device: where the network is moved to, e.g. "cuda:0"; None leaves it where the bundle puts it.
        changes: what is laid over the bundle's config.
        read_elsewhere: names of further configs that the same command reads, e.g. "evaluate"; what is changed in these alone is
            left to them.

    Raises:
        BundleError: for a missing file or section, a change of what is not there, or weights that do not fit the network.
        ValueError: for a device that torch does not have here.
    """
    root = Path(root)
    if is_nnunet_folder(root):
        from monai_tta.pipeline.nnunet_folder import load_nnunet_folder  # which imports this file

        if changes:
            raise BundleError(f"{root}: {NO_CONFIG}")
        return load_nnunet_folder(root, checkpoint, device)
    chosen = None if device is None else usable_device(device)
    parser, config = read_bundle(root, changes, read_elsewhere)
    if chosen is not None and "device" in changes.values():
        raise BundleError("both --device and --set device are given; give one of them")
    sections: dict[str, Any] = cast(dict[str, Any], parser.config)
    if chosen is not None and "device" in sections:
        parser["device"] = f"$torch.device('{chosen}')"
    for name in ("network", "inferer", "preprocessing", "postprocessing"):
        allowed = ("network", "network_def") if name == "network" else (name,)
        if not any(section in sections for section in allowed):
            raise BundleError(f"{config} has no {name!r}; adaptation needs it by that name")
    if checkpoint and isinstance(sections.get("checkpoint"), str) and not sections["checkpoint"].startswith("$"):
        parser["checkpoint"] = checkpoint  # what the network is may depend on it
    named = None if checkpoint is None else chosen_checkpoint(parser, root, checkpoint)
    with as_bundle_error("network and inferer", config):
        parser.parse()
        network = parser.get_parsed_content("network" if "network" in sections else "network_def")
        inferer = parser.get_parsed_content("inferer")
    if not isinstance(network, nn.Module) or not callable(inferer):
        kinds = f"{type(network).__name__} and {type(inferer).__name__}"
        raise BundleError(f"{config}: the network must be a torch module and the inferer a callable; found {kinds}")
    if named is not None:
        load_weights(network, named)
    if chosen is not None:
        network = network.to(chosen)
    where = chosen or next((p.device for p in network.parameters()), torch.device("cpu"))
    return SourceBundle(parser, network.eval(), inferer, where)


def read_bundle(root: Path, changes: ConfigChanges = NO_CHANGES, read_elsewhere: Sequence[str] = ()) -> tuple[ConfigParser, Path]:
    """Read ``configs/inference.(yaml|yml|json)`` and the bundle's metadata; nothing is built yet.

    Args:
        root: the bundle's folder.
        changes: what is laid over the config.
        read_elsewhere: as for `load_bundle`.

    Returns:
        the parser, and the config file.

    Raises:
        BundleError: for a folder without that file, or a file that cannot be read.
    """
    config = config_file(root, "inference")
    return read_parser(root, "inference", changes=changes, read_elsewhere=read_elsewhere), config
