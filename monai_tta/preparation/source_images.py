"""The images of a source that a calibration reads: labelled ones, as the evaluate config lists them, and unlabelled ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.case_file import files_of, label_of
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.load_image import prepare_image
from monai_tta.pipeline.nnunet_folder import NnUNetFolder
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.labelled_images import HeadOrAuto
from monai_tta.preparation.nnunet_images import labelled_nnunet_images
from monai_tta.preparation.source_image import SourceImage


@dataclass(frozen=True, eq=False)
class SourceImages:
    """A bundle with images of its source.

    Args:
        bundle: the source.
        images: the labelled ones first.
        head: what the logits stand for, as far as the bundle's postprocessing says.
        left_out: a line for each kind of image that must not be used.
    """

    bundle: SourceBundle
    images: list[SourceImage]
    head: HeadOrAuto
    left_out: tuple[str, ...] = ()

    def answering(self) -> list[nn.Module]:
        """For each image, the network that answers it. Several networks take images by turns where any of them may answer."""
        bundle = self.bundle
        networks = bundle.networks if isinstance(bundle, NnUNetFolder) else (bundle.network,)
        return [
            networks[number % len(networks) if image.fold is None else image.fold] for number, image in enumerate(self.images)
        ]


@contextmanager
def open_source_images(
    root: Path,
    dataset_dir: Path | None,
    checkpoint: str,
    device: str | None,
    changes: ConfigChanges,
    images: Sequence[Path] = (),
    names: Sequence[str] = (),
) -> Iterator[SourceImages]:
    """Load a bundle and list images of its source, which can be read for as long as this lasts.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder of the labelled images that its evaluate config lists; None for none.
        checkpoint: a file in its ``models`` folder.
        device: where the network computes; None for where the bundle puts it.
        changes: what is laid over the bundle's configs.
        images: unlabelled ones: files, folders of DICOM series, or cases that `monai_tta.pipeline.case_file.write_case_file`
            wrote. One that is among the labelled ones counts once, with its label.
        names: what messages call them; their files' names if empty.

    Raises:
        BundleError: for a bundle that cannot be used, or one without labelled cases where a ``dataset_dir`` is given.
    """
    bundle = load_bundle(root, checkpoint, device, changes, () if dataset_dir is None else ("evaluate",))
    labelled: list[SourceImage] = []
    left_out: tuple[str, ...] = ()
    called = [label_of(image, name) for image, name in zip(images, names or [""] * len(images), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        needs_own = bool(images) or dataset_dir is None or isinstance(bundle, NnUNetFolder)
        preprocessing, postprocessing = bundle.transforms(Path(folder)) if needs_own else (None, None)
        if dataset_dir is not None and isinstance(bundle, NnUNetFolder):
            labelled, left_out = labelled_nnunet_images(bundle, root, dataset_dir, checkpoint)
        elif dataset_dir is not None:
            domain = LabelledDomain(root, dataset_dir, Domain("source", changes.values()), Protocol(()), changes)
            labelled = _labelled_images(domain)
            postprocessing = domain.postprocessing()
        new = _without_labelled(images, labelled)
        unlabelled = [_unlabelled_image(bundle, preprocessing, images[k], called[k]) for k in new]
        yield SourceImages(bundle, [*labelled, *unlabelled], head_of(postprocessing), left_out)


def _labelled_images(domain: LabelledDomain) -> list[SourceImage]:
    """The cases of a bundle's evaluate config. Messages number them, because a list of cases may name patients."""
    return [
        SourceImage(f"labelled image {number + 1} of {len(domain)}", True, item, partial(_read_labelled, domain, number))
        for number, item in enumerate(domain.items)
    ]


def _unlabelled_image(bundle: SourceBundle, preprocessing: Any, image: Path, called: str) -> SourceImage:
    content = {"without a label": [content_id(file) for file in files_of(image)]}
    return SourceImage(called, False, content, partial(_read_unlabelled, bundle, preprocessing, image))


def _without_labelled(images: Sequence[Path], labelled: Sequence[SourceImage]) -> list[int]:
    """The numbers of those images that are not among the labelled ones: an image counts once, with its label."""
    known = {os.path.realpath(file) for one in labelled for file in _paths(one.content.get("image"))}
    return [k for k, image in enumerate(images) if not all(os.path.realpath(file) in known for file in files_of(image))]


def _read_labelled(domain: LabelledDomain, number: int) -> tuple[Tensor, Tensor]:
    case = domain.case(number)
    return case["image"], domain.label_of_image(case)


def _read_unlabelled(bundle: SourceBundle, preprocessing: Any, image: Path) -> tuple[Tensor, None]:
    return prepare_image(bundle, preprocessing, image), None


def _paths(value: Any) -> list[str]:
    return [str(file) for file in (value if isinstance(value, list | tuple) else [value]) if isinstance(file, str | Path)]
