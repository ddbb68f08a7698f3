"""The images of a source that a calibration reads: labelled ones, as the evaluate config lists them, and unlabelled ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_tta.evaluation.label_masks import label_on_image_grid
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.case_file import files_of, label_of
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.content_hashes import content_id
from monai_tta.pipeline.load_image import prepare_image
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.labelled_images import HeadOrAuto


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of the source.

    Args:
        called: what messages call it.
        has_label: whether it has a label.
        content: what kept trials of it depend on: a labelled case as the evaluate config lists it, or a hash of an unlabelled
            image's files.
        read: gives the image ``(C, *spatial)`` as the network sees it, and its label on its grid, None where it has none.
    """

    called: str
    has_label: bool
    content: Mapping[str, Any]
    read: Callable[[], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False)
class SourceImages:
    """A bundle with images of its source.

    Args:
        bundle: the source.
        images: the labelled ones first.
        head: what the logits stand for, as far as the bundle's postprocessing says.
    """

    bundle: SourceBundle
    images: list[SourceImage]
    head: HeadOrAuto


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
    called = [label_of(image, name) for image, name in zip(images, names or [""] * len(images), strict=True)]
    new = list(range(len(images)))
    with tempfile.TemporaryDirectory() as folder:
        preprocessing, postprocessing = bundle.transforms(Path(folder)) if images or dataset_dir is None else (None, None)
        if dataset_dir is not None:
            domain = LabelledDomain(root, dataset_dir, Domain("source", changes.values()), Protocol(()), changes)
            labelled = _labelled_images(domain)
            new = _without_labelled(images, domain)
            postprocessing = domain.postprocessing()
        unlabelled = [_unlabelled_image(bundle, preprocessing, images[k], called[k]) for k in new]
        yield SourceImages(bundle, [*labelled, *unlabelled], head_of(postprocessing))


def _labelled_images(domain: LabelledDomain) -> list[SourceImage]:
    """The cases of a bundle's evaluate config. Messages number them, because a list of cases may name patients."""
    return [
        SourceImage(f"labelled image {number + 1} of {len(domain)}", True, item, partial(_read_labelled, domain, number))
        for number, item in enumerate(domain.items)
    ]


def _unlabelled_image(bundle: SourceBundle, preprocessing: Any, image: Path, called: str) -> SourceImage:
    content = {"without a label": [content_id(file) for file in files_of(image)]}
    return SourceImage(called, False, content, partial(_read_unlabelled, bundle, preprocessing, image))


def _without_labelled(images: Sequence[Path], domain: LabelledDomain) -> list[int]:
    """The numbers of those images that are not among a domain's labelled cases: an image counts once, with its label."""
    labelled = {os.path.realpath(file) for item in domain.items for file in _paths(item.get("image"))}
    return [k for k, image in enumerate(images) if not all(os.path.realpath(file) in labelled for file in files_of(image))]


def _read_labelled(domain: LabelledDomain, number: int) -> tuple[Tensor, Tensor]:
    case = domain.case(number)
    return case["image"], label_on_image_grid(case)


def _read_unlabelled(bundle: SourceBundle, preprocessing: Any, image: Path) -> tuple[Tensor, None]:
    return prepare_image(bundle, preprocessing, image), None


def _paths(value: Any) -> list[str]:
    return [str(file) for file in (value if isinstance(value, list | tuple) else [value]) if isinstance(file, str | Path)]
