"""A bundle's network together with its own images, as its evaluate config reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.labelled_images import HeadOrAuto


@dataclass(frozen=True, eq=False)
class SourceData:
    """A bundle, its cases, and what its logits stand for, as far as its postprocessing says."""

    bundle: SourceBundle
    domain: LabelledDomain
    head: HeadOrAuto


def load_source(
    root: Path,
    dataset_dir: Path,
    checkpoint: str,
    keys: dict[str, Any] | None,
    device: str | None,
) -> SourceData:
    """Load a bundle, and list the cases of its evaluate config, both with ``keys`` set.

    Raises:
        BundleError: for a bundle that cannot be used, or one without such cases.
    """
    changes = ConfigChanges.of((), keys)
    bundle = load_bundle(root, checkpoint, device, changes, ("evaluate",))
    domain = LabelledDomain(root, dataset_dir, Domain("source", keys or {}), Protocol(()), changes)
    return SourceData(bundle, domain, head_of(domain.postprocessing()))
