"""Measure a source's own cases, labelled or not, for `ReferenceRanges`: what guards take to be plausible."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_tta.core.label_free_metrics import mean_entropy
from monai_tta.core.method import NoLearning
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.guards.base import Guard
from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import CaseFigures
from monai_tta.guards.shape_features import SMALL, measure_shape
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.output_head import head_of


class MeasureCases(Guard):
    """Refuse nothing, and keep the figures of each case in ``found``.

    Args:
        truth: gives a label's structures ``(K', *spatial)`` for logits ``(K, *spatial)``; None measures the answer's own.
        small: pieces of fewer voxels are not counted.
    """

    def __init__(self, truth: Callable[[Tensor], Tensor] | None = None, small: int = SMALL) -> None:
        self.truth, self.small = truth, small
        self.found: list[CaseFigures] = []

    def check(self, evidence: Evidence) -> str | None:
        """Measure; costs one forward pass of each window that would teach."""
        masks = evidence.adapted_masks if self.truth is None else self.truth(evidence.adapted[0])
        self.found.append(
            CaseFigures(
                shapes=tuple(measure_shape(mask, evidence.spacing, self.small) for mask in masks),
                entropy=mean_entropy(evidence.adapted_probabilities, evidence.head),
                distances=evidence.distances,
                unit="voxel" if evidence.spacing is None else "affine",
            )
        )
        return None


def measure_images(bundle: SourceBundle, images: Sequence[Path]) -> Iterator[tuple[CaseFigures | None, str | None]]:
    """Answer unlabelled images plainly and measure the answers.

    Yields:
        an image's figures, or why there are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        before, after = bundle.transforms(Path(folder))
        for image in images:
            try:
                if not image.exists():
                    raise FileNotFoundError(f"{image} does not exist")
                yield _measured(bundle, before({"image": str(image)})["image"], after)
            except Exception as error:  # a bad image must not end the cohort
                yield None, f"{image.name}: {type(error).__name__}: {error}"


def measure_labelled(
    bundle: SourceBundle, root: Path, dataset_dir: Path, domain: str
) -> Iterator[tuple[CaseFigures | None, str | None]]:
    """Measure the labels of a domain of the bundle's ``configs/compare.yaml``, and the entropy and distance of its images.

    Yields:
        a case's figures, or why there are none.

    Raises:
        BundleError: for a bundle without that file, an unknown domain, or a domain without cases.
    """
    protocol = protocol_of(root)
    (chosen,) = chosen_domains(protocol, [domain])
    cohort = LabelledDomain(root, dataset_dir, chosen)
    post = cohort.postprocessing()
    for data in map(cohort.case, range(len(cohort))):
        yield _measured(bundle, data["image"], post, partial(_structures, post, data))


def _structures(post: Any, data: dict[str, Any], logits: Tensor) -> Tensor:
    """A case's label as the bundle's postprocessing leaves it, without the background where structures exclude each other."""
    label = torch.as_tensor(post(dict(data) | {"pred": logits})["label"]) > 0
    exclusive = len(label) > 1 and bool((label.sum(0) == 1).all())
    return label[1:] if exclusive else label


def _measured(bundle: SourceBundle, image: Any, post: Any, truth: Any = None) -> tuple[CaseFigures | None, str | None]:
    measure = MeasureCases(truth)
    inferer = AdaptiveInferer(method=NoLearning(), inferer=bundle.inferer, head=head_of(post), guard=measure)
    with torch.no_grad():
        inferer(image[None].to(bundle.device), bundle.network)
    return (measure.found[0], None) if measure.found else (None, inferer.cases[-1].reason)
