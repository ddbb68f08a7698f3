"""Load the bundle that is to be adapted, with the method that suits its checkpoint, and tell what was chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.nnunet_files import is_nnunet_folder

if TYPE_CHECKING:
    from monai_tta.core.method import AdaptationMethod
    from monai_tta.pipeline.bundle import SourceBundle


def load_to_adapt(
    root: Path,
    checkpoint: str | None,
    device: str | None,
    changes: ConfigChanges,
    named: AdaptationMethod | None,
    tell: Callable[[str], None],
) -> tuple[SourceBundle, AdaptationMethod, str]:
    """Load a bundle or an nnU-Net, and complete the method with what belongs to the checkpoint.

    What the user did not choose is told.

    Args:
        root: the bundle's folder, or the nnU-Net's.
        checkpoint: a file in its ``models``, of an nnU-Net in its folds; None for the one that its config names.
        device: where the network computes; None for where the bundle puts it.
        changes: what is laid over the bundle's config.
        named: the method; None for the safe one.
        tell: what is done with what is told, a line each.

    Returns:
        the bundle, the method, and the checkpoint's name.

    Raises:
        BundleError: for a bundle that cannot be used, or a gain predictor of another config.
    """
    from monai_tta.pipeline import bundle as bundles  # by its module, so that what is put in place of a function is called
    from monai_tta.pipeline.bundle_predictor import check_predictor_config, safe_method
    from monai_tta.pipeline.checkpoint import USUAL, checkpoint_name
    from monai_tta.pipeline.source_files import weights_file

    name = checkpoint_name(root, checkpoint, changes)
    if checkpoint is None and name != USUAL and not is_nnunet_folder(root):
        tell(f"checkpoint: {name}, which the bundle's config names")
    source = bundles.load_bundle(root, name, device, changes)
    if source.about:
        tell(source.about)
    weights = weights_file(root, name)
    if named is None:
        named, which_and_why = safe_method(source.network, weights)
        tell(f"method: {which_and_why}")
    method = named.for_checkpoint(weights)
    check_predictor_config(weights, method, root, changes)
    return source, method, name
