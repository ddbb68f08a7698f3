"""What the records of `monai-tta run` say on top: the command and its settings, without the paths of anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.case_options import CaseOptions
from monai_tta.cli.quality_options import QualityOptions
from monai_tta.cli.uncertainty_options import UncertaintyOptions
from monai_tta.pipeline.shards import WHOLE, Shard

if TYPE_CHECKING:
    from monai_tta.cli.check import Checks
    from monai_tta.core.method import AdaptationMethod
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.pipeline.config_changes import ConfigChanges
    from monai_tta.pipeline.records import RunFacts

DEFAULTS = {
    "head": "auto",
    "learn": "volume",
    "reset": "volume",
    "budget": "auto",
    "seed": 0,
    "precision": "exact",
    "main_output": None,
}


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the command line of `monai-tta run` asked for; ``options`` are keyword arguments of `AdaptiveInferer`."""

    bundle: Path
    images: list[Path]
    out: Path
    checkpoint: str | None
    changes: tuple[list[str], list[str]]
    device: str | None
    method: str | None
    choices: list[str]
    guards: list[str]
    reference: Path | None
    restart: bool
    anonymous: bool
    checks: Checks
    options: dict[str, Any]
    cases: CaseOptions
    quality: QualityOptions = QualityOptions()
    uncertainty: UncertaintyOptions = UncertaintyOptions()
    shard: Shard = WHOLE
    workers: int = 1
    report: bool = False
    preview: bool = False
    mask_format: str | None = None


def facts_of(
    request: RunRequest,
    changes: ConfigChanges,
    source: SourceBundle,
    method: AdaptationMethod,
    checkpoint: str,
    hashes: Mapping[str, Any],
) -> RunFacts:
    """What the records of a run say on top.

    Args:
        request: what was asked for.
        changes: what is laid over the bundle's config.
        source: the bundle.
        method: how to adapt.
        checkpoint: a file in the bundle's models folder.
        hashes: what `monai_tta.pipeline.segment.settings_of` returned, and those of ``changes``.
    """
    from monai_tta.pipeline.label_ranges import read_label_ranges
    from monai_tta.pipeline.mask_labels import LabelNames
    from monai_tta.pipeline.records import RunFacts
    from monai_tta.pipeline.shipped_bundles import find_bundle
    from monai_tta.pipeline.source_files import weights_file
    from monai_tta.pipeline.value_range import scaled_range

    bundle = find_bundle(request.bundle, nnunet=True)
    command = command_on_record(
        bundle,
        method=request.method,
        choices=request.choices,
        guards=request.guards,
        reference=request.reference,
        checkpoint=request.checkpoint,
        device=request.device,
        options=request.options,
        anonymous=request.anonymous,
        changes=changes.words(),
        cases=request.cases,
        checks=[
            *request.checks.words(),
            *request.quality.words(),
            *request.uncertainty.words(),
            *(["--preview"] if request.preview else []),
            *([] if request.mask_format is None else ["--format", request.mask_format]),
        ],
    )
    names = LabelNames.of_metadata(source.metadata())
    ranges = read_label_ranges(weights_file(bundle, checkpoint), request.checks.reference, names)
    return RunFacts(
        command=command,
        settings=_settings_of_run(request, bundle, source, method, checkpoint, hashes),
        names=names,
        anonymous=request.anonymous,
        ranges=ranges,
        intensity_range=scaled_range(source),
    )


def _settings_of_run(
    request: RunRequest, bundle: Path, source: SourceBundle, method: AdaptationMethod, checkpoint: str, hashes: Mapping[str, Any]
) -> dict[str, Any]:
    """What was chosen, the same for all shards of a run."""
    from monai_tta.pipeline.content_hashes import content_hash

    device = source.device if request.shard.is_whole else source.device.type  # on whatever card
    settings = settings_on_record(bundle, checkpoint, method.record_name, device, request.guards, request.options, hashes)
    settings["uncertainty"] = hashes.get("uncertainty")
    settings["reference_hash"] = "" if request.reference is None else content_hash(request.reference)
    settings["preview"] = request.preview
    settings["format"] = request.mask_format
    return settings


def command_on_record(
    bundle: Path,
    *,
    method: str | None,
    choices: Sequence[str],
    guards: Sequence[str],
    reference: Path | None,
    checkpoint: str | None,
    device: str | None,
    options: Mapping[str, Any],
    anonymous: bool,
    changes: Sequence[str] = (),
    cases: CaseOptions = CaseOptions(),  # noqa: B008
    checks: Sequence[str] = (),
) -> str:
    """The command line with the options that differ from their defaults.

    Paths may name a patient: the images are IMAGES, the folder for masks is OUT, other files go by their last name.
    ``--restart``, ``--shard``, ``--workers`` and ``--report`` change no answer and are left out: a resumed or shared run has the
    command of any other.

    Args:
        bundle: the bundle's folder.
        method: as it was named; None for the safe one.
        choices: NAME=VALUE, as given.
        guards: as given.
        reference: the file of reference ranges.
        checkpoint: as given; None for the one that the bundle's config names.
        device: as given.
        options: keyword arguments of `AdaptiveInferer` that the command line sets.
        anonymous: whether the records name no case.
        changes: of the bundle's config, as words of the command line.
        cases: how files are grouped, and what is asked for.
        checks: of the inputs, of the masks' worth and of their uncertainty, previews and the format, as words of a command.
    """
    words = ["monai-tta", "run", bundle.resolve().name, "IMAGES", "--out", "OUT"]
    words += [] if method is None else ["--method", method]
    words += [word for choice in choices for word in ("--choose", file_names_alone(choice))]
    for name, default in DEFAULTS.items():
        value = options.get(name, default)
        if value != default:
            words += [f"--{name.replace('_', '-')}", str(0 if value is None else value)]
    words += [word for guard in guards for word in ("--guard", guard)]
    words += [] if reference is None else ["--reference", reference.name]
    words += [] if checkpoint is None else ["--checkpoint", checkpoint_on_record(checkpoint)]
    words += [] if device is None else ["--device", device]
    words += changes
    words += ["--group", cases.group] if cases.group else []
    words += ["--sequences", cases.sequences] if cases.sequences else []
    words += [] if cases.prompts is None else ["--prompts", cases.prompts.name]
    words += checks
    words += ["--anonymous"] if anonymous else []
    return shlex.join(words)


def settings_on_record(
    bundle: Path, checkpoint: str, method: str, device: Any, guards: Sequence[str], options: Mapping[str, Any], hashes: Any
) -> dict[str, Any]:
    """Everything that was chosen or found, by name.

    Args:
        bundle: the bundle's folder.
        checkpoint: a file in its models folder.
        method: with all its choices, as records write it.
        device: where the network is.
        guards: as given.
        options: keyword arguments of `AdaptiveInferer` that the command line sets.
        hashes: what `monai_tta.pipeline.segment.settings_of` returned.
    """
    return {
        "bundle": bundle.resolve().name,
        "bundle_hash": hashes["bundle"],
        "checkpoint": checkpoint_on_record(checkpoint),
        "weights_hash": hashes["weights"],
        "method": method,
        "method_file_hashes": hashes["method file"],
        "guards": list(guards),
        "device": str(device),
        "config_hash": hashes.get("--config", ""),
        "set_hash": hashes.get("--set", ""),
        "input_reference_hash": hashes.get("input reference", ""),
        "fix": hashes.get("fix", False),
        "quality_predictor_hash": hashes.get("quality", ""),
        **{name: options.get(name, default) for name, default in DEFAULTS.items()},
    }


def checkpoint_on_record(checkpoint: str) -> str:
    """A checkpoint's last name, with the fold of an nnU-Net that was chosen.

    >>> checkpoint_on_record("/data/x/model.pt"), checkpoint_on_record("fold_1/checkpoint_final.pth")
    ('model.pt', 'fold_1/checkpoint_final.pth')
    """
    return checkpoint if re.fullmatch(r"fold_(\d+|all)/[^/\\]+", checkpoint) else file_names_alone(checkpoint)


def file_names_alone(choice: str) -> str:
    """A choice, NAME=VALUE or a value alone, in which a path is its last name.

    >>> file_names_alone("select.file=/data/x/added.npz"), file_names_alone("steps=4")
    ('select.file=added.npz', 'steps=4')
    """
    name, equals, value = choice.rpartition("=")
    return name + equals + value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
