"""The bundles that come with the package, by name; imports neither torch nor MONAI."""

from __future__ import annotations

from pathlib import Path

from monai_tta.pipeline.match_names import did_you_mean, letters
from monai_tta.pipeline.nnunet_files import check_nnunetv2, is_nnunet_folder

BUNDLES = Path(__file__).parent.parent / "bundles"


def shipped_bundles() -> list[str]:
    """The names of the bundles that come with the package, in the order of the alphabet."""
    return sorted(config.parents[1].name for config in BUNDLES.glob("*/configs/inference.yaml"))


def find_bundle(name: Path | str, *, nnunet: bool = False) -> Path:
    """The folder of a bundle that a user names: a path that exists, else the shipped bundle of that name.

    Case, hyphens and underscores of a shipped bundle's name do not matter.

    Args:
        name: a path, or a shipped bundle's name.
        nnunet: whether the folder of an nnU-Net will do, too.

    Raises:
        ValueError: where there is neither; the message lists the shipped bundles and suggests the nearest name. For an nnU-Net
            where none will do.
        ImportError: for an nnU-Net without the package nnunetv2.
    """
    path = Path(name)
    shipped = shipped_bundles()
    if path.is_dir():
        _check_nnunet(path, nnunet)
        return path
    if path.exists():
        raise ValueError(f"{path} is not a MONAI bundle: it is a file; give the folder that holds configs and models")
    if path.name == str(path) and letters(path.name) in (by_letters := {letters(other): other for other in shipped}):
        return BUNDLES / by_letters[letters(path.name)]
    raise ValueError(
        f"{path} is not a MONAI bundle: there is no such folder, and no bundle of that name comes with monai-tta."
        f"{did_you_mean(path.name, shipped)} These come with it: {', '.join(shipped)}"
    )


def _check_nnunet(path: Path, is_usable: bool) -> None:
    """Refuse an nnU-Net where it cannot be used."""
    if not is_nnunet_folder(path):
        return
    if not is_usable:
        raise ValueError(
            f"{path} is a model folder of nnU-Net, and this command needs the configs of a MONAI bundle: it does not support "
            "nnU-Net yet; `monai-tta run`, `check`, `calibrate`, `compare`, `trust`, `reference` and `profile` do"
        )
    check_nnunetv2()
