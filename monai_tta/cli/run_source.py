"""What `monai-tta run` segments with: the bundle, the method and all that masks depend on, made from what was asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.check import input_checks
from monai_tta.cli.console import console, say
from monai_tta.cli.guard_option import parse_guards
from monai_tta.cli.options import parse_changes
from monai_tta.cli.quality_options import load_quality
from monai_tta.cli.run_facts import RunRequest, facts_of
from monai_tta.cli.uncertainty_options import views_for_maps
from monai_tta.pipeline.load_to_adapt import load_to_adapt
from monai_tta.pipeline.method_by_name import named_method
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.core.method import AdaptationMethod
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.pipeline.config_changes import ConfigChanges
    from monai_tta.pipeline.records import RunFacts
    from monai_tta.pipeline.segment_workers import WorkerSource
    from monai_tta.quality.quality_predictor import QualityPredictor


@dataclass(frozen=True)
class LoadedToRun:
    """What of a run was loaded before its images were looked for.

    Args:
        root: the folder of the bundle, or of the nnU-Net.
        bundle: loaded.
        method: how to adapt.
        checkpoint: the name of its weights.
        changes: what is laid over the bundle's config.
        options: keyword arguments of `AdaptiveInferer`.
    """

    root: Path
    bundle: SourceBundle
    method: AdaptationMethod
    checkpoint: str
    changes: ConfigChanges
    options: dict[str, Any]


@dataclass(frozen=True)
class RunSource:
    """What a run segments with.

    Args:
        source: the bundle, the method, its options and the input checks.
        settings: everything that masks depend on besides their images.
        facts: what the records say on top.
        predictor: of the masks' quality; None where there is none.
    """

    source: WorkerSource
    settings: dict[str, Any]
    facts: RunFacts
    predictor: QualityPredictor | None


def load_to_run(request: RunRequest) -> LoadedToRun:
    """Load the bundle of a run and its method, and say which the user did not choose.

    Args:
        request: what was asked for.

    Raises:
        ValueError: for what cannot be used, or does not fit together.
    """
    root = find_bundle(request.bundle, nnunet=True)
    options = {**request.options, "guard": parse_guards(request.guards, request.reference)}
    options["uncertainty"] = views_for_maps(root, request.uncertainty)
    named = None if request.method is None else named_method(request.method, request.choices)
    changes = parse_changes(*request.changes)
    bundle, method, checkpoint = load_to_adapt(root, request.checkpoint, _device(request), changes, named, say)
    return LoadedToRun(root, bundle, method, checkpoint, changes, options)


def run_source(request: RunRequest, loaded: LoadedToRun) -> RunSource:
    """What a run segments with; says what is not known of the source.

    Args:
        request: what was asked for.
        loaded: of the same request.

    Raises:
        ValueError: for what cannot be used, or does not fit together.
    """
    from monai_tta.pipeline.preview import PreviewText
    from monai_tta.pipeline.segment import settings_of
    from monai_tta.pipeline.segment_workers import WorkerSource
    from monai_tta.pipeline.source_files import weights_file

    root, bundle, method, changes = loaded.root, loaded.bundle, loaded.method, loaded.changes
    weights = weights_file(root, loaded.checkpoint)
    settings = settings_of(root, loaded.checkpoint, method, loaded.options) | changes.settings(root)
    checks, depends = input_checks(bundle, weights, request.checks)
    predictor, depends_too = load_quality(bundle, root, weights, changes, request.quality)
    settings |= {**depends, **depends_too, "preview": _preview_setting(request), "format": request.mask_format}
    facts = facts_of(request, changes, bundle, method, loaded.checkpoint, settings)
    options = {**loaded.options, "quality": predictor}
    preview = PreviewText(facts.names, request.anonymous, facts.intensity_range) if request.preview else None
    worker = WorkerSource(bundle, method, options, checks, preview, request.mask_format)
    return RunSource(worker, settings, facts, predictor)


def load_worker_source(request: RunRequest) -> WorkerSource:
    """The same in another process, which says nothing: the one that started it has said it all.

    Args:
        request: what was asked for.
    """
    console.quiet = True
    return run_source(request, load_to_run(request)).source


def _preview_setting(request: RunRequest) -> str:
    """How previews are made, for the run log: what a resumed run makes must be like what is there."""
    return "" if not request.preview else "without names" if request.anonymous else "with names"


def _device(request: RunRequest) -> str | None:
    """Where the network computes: under torchrun, where nothing else was said, each process has a card of its own."""
    local_rank = os.environ.get("LOCAL_RANK", "")
    if request.device is not None or request.shard.is_whole or not local_rank.isdecimal():
        return request.device
    import torch

    cards = torch.cuda.device_count()
    return f"cuda:{int(local_rank) % cards}" if cards > 1 else None
