"""Labelled images of an nnU-Net's source, as its networks see them, each answered by a fold that was not trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import Tensor

from monai_tta.evaluation.nnunet_labelled import LABELLED, NnUNetLabelledDomain
from monai_tta.evaluation.protocol import Domain
from monai_tta.pipeline.nnunet_folder import NnUNetFolder
from monai_tta.pipeline.source_files import weights_files
from monai_tta.preparation.source_image import SourceImage

_VALIDATION = "validation"  # where a fold's training leaves its masks of the cases that it held out
_TRAINING = "labelsTr"


def labelled_nnunet_images(
    source: NnUNetFolder, root: Path, dataset_dir: Path, checkpoint: str
) -> tuple[list[SourceImage], tuple[str, ...]]:
    """List the labelled cases of a raw dataset folder.

    Where the dataset is the one that the folds were trained on, by the cases in their folders ``validation``, each case of
    ``labelsTr`` is answered by the fold that held it out. A case that no fold in use held out is not listed.

    Args:
        source: the nnU-Net.
        root: its folder.
        dataset_dir: a folder of nnUNet_raw.
        checkpoint: as for `weights_files`.

    Returns:
        the images, and a line of text where some are not listed, or nothing says what the folds were trained on.

    Raises:
        BundleError: for a folder without labelled cases, or with other labels than the network's.
    """
    domain = NnUNetLabelledDomain(root, dataset_dir, Domain(LABELLED))
    names = [item["label"].name for item in domain.items]
    training = {name for name, item in zip(names, domain.items, strict=True) if item["label"].parent.name == _TRAINING}
    held_out = _held_out(weights_files(root, checkpoint), training, source.plan.cases.ending)
    images = []
    for number, (name, item) in enumerate(zip(names, domain.items, strict=True)):
        fold = None
        if held_out is not None and name in training:
            fold = next((k for k, of_fold in enumerate(held_out) if name in of_fold), None)
            if fold is None:
                continue
        files = [item["image"]]
        with suppress(ValueError):  # reading the case says what is wrong with it
            files = source.plan.cases.files(item["image"])
        content = {"image": files, "label": item["label"], "fold": fold}
        called = f"labelled image {number + 1} of {len(domain)}"  # not by its name, which may be a patient's
        images.append(SourceImage(called, True, content, partial(_read, domain, number), fold))
    return images, _notes(len(training), len(names) - len(images), is_known=held_out is not None)


def _notes(n_training: int, n_left_out: int, *, is_known: bool) -> tuple[str, ...]:
    """What a person should know of the cases in labelsTr: how many are not used, and why; or that nothing is known of them."""
    if n_training and not is_known:
        return (f"no fold_*/validation names the cases in {_TRAINING}: make sure that the network was not trained on them",)
    if not n_left_out:
        return ()
    why = "the folds in use were trained on them, or do not say; fold_*/validation names those that each held out"
    return (f"of the {n_training} cases in {_TRAINING}, {n_left_out} are not used: {why}",)


def _held_out(files: Sequence[Path], training: set[str], ending: str) -> list[set[str]] | None:
    """For each fold the label files of the cases that it held out; None where this is not the dataset of their training.

    Args:
        files: the folds' checkpoints.
        training: the names of the files in labelsTr.
        ending: of label files.
    """
    found: list[set[str]] = []
    for file in files:
        names = {mask.name for mask in (file.parent / _VALIDATION).glob(f"*{ending}")}
        if names - training:
            return None
        found.append(names)
    if not any(found):
        return None
    # fold_all is trained on all cases, and its folder names the same.
    return [set() if file.parent.name == "fold_all" else names for file, names in zip(files, found, strict=True)]


def _read(domain: NnUNetLabelledDomain, number: int) -> tuple[Tensor, Tensor]:
    """An image ``(C, *spatial)`` after nnU-Net's preprocessing, and its label on that grid."""
    return domain.prepared(*domain.read(domain.items[number]))
