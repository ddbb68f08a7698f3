"""Read a model folder of nnU-Net v2 as a source: its networks with their weights, its preprocessing, windows and export."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.pipeline.bundle import OWN, SourceBundle
from monai_tta.pipeline.bundle_config import BundleError, as_bundle_error
from monai_tta.pipeline.checkpoint import check_finite
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.nnunet_checkpoint import MIRRORS, read_checkpoint
from monai_tta.pipeline.nnunet_files import CHECKPOINT, Cases, check_nnunetv2, folds_without
from monai_tta.pipeline.nnunet_inferer import FoldsInferer, NnUNetWindows
from monai_tta.pipeline.nnunet_transforms import (
    LoadNnUNetCased,
    Plan,
    PrepareNnUNetCased,
    SaveNnUNetCased,
    SegmentNnUNetCased,
)
from monai_tta.pipeline.source_files import description_files, weights_files


@dataclass(kw_only=True)
class NnUNetFolder(SourceBundle):
    """A model folder of nnU-Net v2. ``network`` is the first fold's.

    Args:
        plan: of the trained configuration.
        networks: of all folds that answer together, in eval mode, with their weights.
    """

    plan: Plan
    networks: tuple[nn.Module, ...]

    def transforms(self, folder: Path) -> tuple[Any, Any]:
        """nnU-Net's preprocessing, and its export that writes into ``folder``."""
        preprocessing = Compose([LoadNnUNetCased(self.plan), PrepareNnUNetCased(self.plan)])
        return preprocessing, Compose([SegmentNnUNetCased(self.plan), SaveNnUNetCased(self.plan, folder)])

    def adapt_with(self, method: AdaptationMethod, **options: Any) -> FoldsInferer:
        """An inferer that adapts each fold by itself and answers their mean."""
        return FoldsInferer(method, self.networks, self.inferer, **options)


def load_nnunet_folder(folder: Path, checkpoint: str | None = OWN, device: str | None = None) -> NnUNetFolder:
    """Read a model folder: ``dataset.json``, ``plans.json`` and the checkpoints of its folds, with ``weights_only=True``.

    Args:
        folder: the model folder.
        checkpoint: as for `monai_tta.pipeline.nnunet_files.checkpoint_files`. None for networks without weights.
        device: where the networks are moved to, e.g. "cuda:0"; None for a GPU where there is one, as nnU-Net does.

    Raises:
        BundleError: for what nnU-Net cannot use, a checkpoint that holds more than numbers, the second stage of a cascade.
        ImportError: without the package nnunetv2.
        ValueError: for a device that torch does not have here.
    """
    check_nnunetv2()
    chosen = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    files = weights_files(folder, checkpoint or OWN)
    with as_bundle_error("an nnU-Net", folder):
        trained = _read_trained(files)
    with as_bundle_error("an nnU-Net", folder), _quiet():
        plan, predictor, build = _plan_of(folder, trained[0], chosen)
    networks = []
    for file, content in zip(files, trained, strict=True):
        with as_bundle_error("the network", folder), _quiet():
            network: nn.Module = build()
        if checkpoint is not None:
            _fill(network, content["network_weights"], file)
        networks.append(network.to(chosen).eval())
    windows = NnUNetWindows(predictor, plan.plans.get_label_manager(plan.dataset).num_segmentation_heads)
    return NnUNetFolder(
        parser=_parser(folder, plan),
        network=networks[0],
        inferer=windows,
        device=chosen,
        about=_about(folder, files, trained[0], predictor),
        plan=plan,
        networks=tuple(networks),
    )


def read_plan(folder: Path) -> tuple[Plan, tuple[int, ...]]:
    """What nnU-Net knows of a model, without its networks, and along which axes it mirrors.

    Args:
        folder: the model folder.

    Raises:
        BundleError: as `load_nnunet_folder`.
    """
    check_nnunetv2()
    found = sorted(folder.glob("fold_*/*.pth"))
    file = found[0] if found and not list(folder.glob(f"fold_*/{CHECKPOINT}")) else weights_files(folder, OWN)[0]
    return _read_plan(folder, file, *(path.stat().st_mtime_ns for path in (file, *description_files(folder))))


@lru_cache(maxsize=2)
def _read_plan(folder: Path, file: Path, *when: int) -> tuple[Plan, tuple[int, ...]]:
    """The same for as long as the files stay as they are."""
    with as_bundle_error("an nnU-Net", folder), _quiet():
        content = read_checkpoint(file)
        return _plan_of(folder, content, torch.device("cpu"))[0], tuple(content.get(MIRRORS) or ())


def _read_trained(files: list[Path]) -> list[dict[str, Any]]:
    """The checkpoints' contents, which must be of one training set-up.

    Raises:
        BundleError: where they cannot be read, or differ.
    """
    trained = [read_checkpoint(file) for file in files]
    for file, content in zip(files, trained, strict=True):
        if _set_up(content) != _set_up(trained[0]):
            raise BundleError(f"{file} was trained as {_set_up(content)}, {files[0]} as {_set_up(trained[0])}: not one model")
    return trained


def _set_up(content: dict[str, Any]) -> tuple[Any, ...]:
    """Trainer, configuration and mirrored axes."""
    return content["trainer_name"], content["init_args"]["configuration"], tuple(content.get(MIRRORS) or ())


def _plan_of(folder: Path, content: dict[str, Any], device: torch.device) -> tuple[Plan, Any, Any]:
    """What nnU-Net knows of the model, its predictor without a network, and what builds a network."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = ConfigParser.load_config_file(str(folder / "dataset.json"))
    plans = PlansManager(str(folder / "plans.json"))
    name = content["init_args"]["configuration"]
    configuration = plans.get_configuration(name)
    if configuration.previous_stage_name is not None:
        raise BundleError(
            f"{folder}: {name} is the second stage of a cascade and needs the masks of {configuration.previous_stage_name}; this "
            "is not supported. Give the folder of the first stage, or of 3d_fullres or 2d"
        )
    labels = plans.get_label_manager(dataset)
    plan = Plan(plans, configuration, dataset, Cases.of_folder(folder), "sigmoid" if labels.has_regions else "softmax")
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    axes = content.get(MIRRORS)
    predictor.manual_initialization(None, plans, configuration, None, dataset, content["trainer_name"], axes)
    n_inputs = determine_num_input_channels(plans, configuration, dataset)
    return plan, predictor, lambda: _build(plan, content["trainer_name"], n_inputs, labels.num_segmentation_heads)


def _build(plan: Plan, trainer_name: str, n_inputs: int, n_outputs: int) -> nn.Module:
    """The network of a trainer, as nnU-Net builds it for prediction; older trainers take other arguments."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    build = recursive_find_trainer_class_by_name(trainer_name).build_network_architecture
    configuration = plan.configuration
    if "plans_manager" in inspect.signature(build).parameters:
        first: tuple[Any, ...] = (plan.plans, configuration)
    else:
        kwargs = (configuration.network_arch_init_kwargs, configuration.network_arch_init_kwargs_req_import)
        first = (configuration.network_arch_class_name, *kwargs)
    network: nn.Module = build(*first, n_inputs, n_outputs, enable_deep_supervision=False)
    return network


def _fill(network: nn.Module, weights: dict[str, Any], file: Path) -> None:
    """Load a fold's weights."""
    try:
        network.load_state_dict(weights)
    except Exception as error:  # what a file holds under the names of weights can be anything
        raise BundleError(f"{file} does not fit {type(network).__name__} as plans.json describes it: {error}") from error
    check_finite(network, file)


def _about(folder: Path, files: list[Path], content: dict[str, Any], predictor: Any) -> str:
    """What was loaded, in a line."""
    folds = ", ".join(file.parent.name.removeprefix("fold_") for file in files)
    axes = predictor.allowed_mirroring_axes
    mirrored = f"mirrored along {len(axes)} axes" if axes else "not mirrored"
    without = folds_without(folder, files)
    left_out = f" (without {', '.join(without)})" if without else ""
    return f"nnU-Net {content['init_args']['configuration']}, fold {folds}{left_out}, {files[0].name}, {mirrored}"


def _parser(folder: Path, plan: Plan) -> ConfigParser:
    """A bundle's metadata: the names of labels, as a bundle's ``metadata.json`` gives them."""
    named = [(name, value) for name, value in plan.dataset["labels"].items() if name != "ignore"]
    if plan.head == "softmax":
        output: dict[str, Any] = {"channel_def": {str(value): name for name, value in named}}
    else:
        regions = [name for name, value in named if np.any(np.asarray(value) != 0)]
        order = plan.dataset["regions_class_order"]
        own = {str(value): _without(regions[k], regions[k + 1 :]) for k, value in enumerate(order)}
        output = {"channel_def": {str(k): name for k, name in enumerate(regions)}, "mask_values": {"0": "background", **own}}
    parser = ConfigParser({})
    parser["_meta_"] = {"network_data_format": {"outputs": {"pred": output}}}
    parser["bundle_root"] = str(folder)
    return parser


def _without(region: str, later: list[str]) -> str:
    """What a value of a mask of regions means: later regions are drawn over earlier ones."""
    return f"{region} without {' and '.join(later)}" if later else region


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what nnU-Net prints from standard output, which belongs to results."""
    with redirect_stdout(io.StringIO()):
        yield
