"""Measure a source's own cases, labelled or not: the figures that `ReferenceRanges` are made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_tta.core.label_free_metrics import mean_entropy
from monai_tta.core.no_learning import NoLearning
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.evaluation.scoring import is_one_hot
from monai_tta.guards.base import Guard
from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import CaseFigures
from monai_tta.guards.shape_features import SMALL, measure_shape
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.case_file import label_of
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.load_image import prepare_image
from monai_tta.pipeline.output_head import head_of

FiguresOrReason = tuple[CaseFigures | None, str | None]  # a case's figures and None; or None and why there are none


class MeasureCases(Guard):
    """Refuse nothing, and keep the figures of each case in ``found``.

    Args:
        label_masks: gives a label's structures ``(K', *spatial)`` for logits ``(K, *spatial)``; None measures the answer's own.
        small: components of fewer voxels are not counted.
    """

    def __init__(self, label_masks: Callable[[Tensor], Tensor] | None = None, small: int = SMALL) -> None:
        self.label_masks = label_masks
        self.small = small
        self.found: list[CaseFigures] = []

    def check(self, evidence: Evidence) -> str | None:
        """Measure a case; costs one forward pass of each window that would be adapted on."""
        masks = evidence.adapted_masks if self.label_masks is None else self.label_masks(evidence.adapted[0])
        self.found.append(
            CaseFigures(
                shapes=tuple(measure_shape(mask, evidence.spacing, self.small) for mask in masks),
                entropy=mean_entropy(evidence.adapted_probabilities, evidence.head),
                distances=evidence.distances,
                unit="voxel" if evidence.spacing is None else "affine",
            )
        )
        return None


def measure_images(bundle: SourceBundle, images: Sequence[Path]) -> Iterator[FiguresOrReason]:
    """Segment unlabelled images without adaptation and measure the answers.

    Args:
        bundle: the source.
        images: files, or folders of DICOM series.

    Yields:
        for each image its figures, or why there are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        preprocessing, postprocessing = bundle.transforms(Path(folder))
        for image in images:
            try:
                yield _measured(bundle, prepare_image(bundle, preprocessing, image), postprocessing)
            except Exception as error:  # one bad image must not end the run
                yield None, f"{label_of(image, '')}: {describe_error(error)}"


def measure_labelled(bundle: SourceBundle, root: Path, dataset_dir: Path, domain: str) -> Iterator[FiguresOrReason]:
    """Measure the labels of a domain of the bundle's ``configs/compare.yaml``, and the entropy and distances of its images.

    Args:
        bundle: the source.
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        domain: the label of one of the domains.

    Yields:
        for each case its figures, or why there are none.

    Raises:
        BundleError: for a bundle without that file, an unknown domain, or a domain without cases.
    """
    protocol = protocol_of(root)
    (chosen,) = chosen_domains(protocol, [domain])
    labelled = LabelledDomain(root, dataset_dir, chosen)
    postprocessing = labelled.postprocessing()
    for number in range(len(labelled)):
        case = labelled.case(number)
        yield _measured(bundle, case["image"], postprocessing, partial(_label_masks, postprocessing, case))


def _label_masks(postprocessing: Any, case: dict[str, Any], logits: Tensor) -> Tensor:
    """A case's label as the bundle's postprocessing leaves it, without the background of one-hot channels."""
    label = torch.as_tensor(postprocessing(dict(case) | {"pred": logits})["label"]) > 0
    return label[1:] if is_one_hot(label) else label


def _measured(
    bundle: SourceBundle, image: Any, postprocessing: Any, label_masks: Callable[[Tensor], Tensor] | None = None
) -> FiguresOrReason:
    measure = MeasureCases(label_masks)
    inferer = AdaptiveInferer(method=NoLearning(), inferer=bundle.inferer, head=head_of(postprocessing), guard=measure)
    with torch.no_grad():
        inferer(image[None].to(bundle.device), bundle.network)
    return (measure.found[0], None) if measure.found else (None, inferer.cases[-1].reason)
