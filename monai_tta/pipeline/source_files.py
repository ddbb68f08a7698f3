"""Which files a source consists of: a bundle's configs and its checkpoint, or an nnU-Net's descriptions and folds."""

from __future__ import annotations

from pathlib import Path

from monai_tta.pipeline.bundle_config import ENDINGS, BundleError
from monai_tta.pipeline.nnunet_files import ModelFolderError, checkpoint_files, is_nnunet_folder


def description_files(root: Path) -> list[Path]:
    """The files that say what a source is, besides its weights. Some of them may be missing.

    Args:
        root: the folder of a bundle, or of an nnU-Net.
    """
    if is_nnunet_folder(root):
        return [root / "plans.json", root / "dataset.json"]
    configs = [root / "configs" / f"inference.{ending}" for ending in ENDINGS] + [root / "configs" / "metadata.json"]
    return configs + sorted((root / "scripts").rglob("*.py"))  # transforms of the bundle's own


def weights_files(root: Path, checkpoint: str) -> list[Path]:
    """The files of a source's weights: one, or one for each fold of an nnU-Net.

    Args:
        root: the folder of a bundle, or of an nnU-Net.
        checkpoint: its name, by `monai_tta.pipeline.checkpoint.checkpoint_name`.

    Raises:
        BundleError: for an nnU-Net without such a checkpoint.
    """
    if not is_nnunet_folder(root):
        return [root / "models" / checkpoint]
    try:
        return checkpoint_files(root, checkpoint)
    except ModelFolderError as error:
        raise BundleError(str(error)) from error


def weights_file(root: Path, checkpoint: str) -> Path:
    """The file beside which lies what belongs to a checkpoint: a gain predictor, a reference. Of an nnU-Net its first fold's.

    Args:
        root: as for `weights_files`.
        checkpoint: as for `weights_files`.

    Raises:
        BundleError: as for `weights_files`.
    """
    return weights_files(root, checkpoint)[0]
