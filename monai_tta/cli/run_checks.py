"""What `monai-tta run` refuses before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from monai_tta.cli.guard_option import check_guard_names
from monai_tta.cli.options import parse_changes
from monai_tta.cli.run_facts import RunRequest
from monai_tta.pipeline.mask_formats import check_format
from monai_tta.pipeline.method_by_name import find_method_name
from monai_tta.pipeline.nnunet_files import NO_CONFIG, is_nnunet_folder
from monai_tta.pipeline.shipped_bundles import find_bundle


def check_names(request: RunRequest) -> Path:
    """Check every name that was given, and options that exclude each other.

    Args:
        request: what the command line asked for.

    Returns:
        the folder of the bundle, or of the nnU-Net.

    Raises:
        ValueError: for a name that there is not, or options that exclude each other.
    """
    root = find_bundle(request.bundle, nnunet=True)
    if request.method is not None:
        find_method_name(request.method)
    elif request.choices:
        raise ValueError("--choose is for a method; give --method, too")
    check_guard_names(request.guards)
    check_format(request.mask_format)
    _check_shares(request)
    changes = parse_changes(*request.changes)
    if request.uncertainty.on:
        _check_uncertainty(request)
    if is_nnunet_folder(root):
        _check_nnunet_options(request, bool(changes))
    return root


def _check_shares(request: RunRequest) -> None:
    """Refuse shares and workers where they would change answers or lose what is done."""
    if request.shard.is_whole and request.workers == 1:
        return
    if request.options["reset"] == "never":
        raise ValueError(
            "--reset never carries what was learnt from each image to the next, so the images cannot be spread over processes; "
            "leave out --shard and --workers"
        )
    if request.restart and not request.shard.is_whole:
        raise ValueError(
            "--restart would forget what other shards do just now; to start from the first image, end all shards and give "
            "another --out, or remove records.json and .monai_tta_run* from this one"
        )


def _check_uncertainty(request: RunRequest) -> None:
    """Refuse --uncertainty where a map cannot be made."""
    if request.cases.prompts is not None:
        raise ValueError("--uncertainty compares mirrored views, for which prompts would have to be moved; leave out one of both")
    if request.options["learn"] == "window":
        raise ValueError("--uncertainty needs one network for the whole image, so it excludes --learn window")


def _check_nnunet_options(request: RunRequest, has_changes: bool) -> None:
    """Refuse options that nnU-Net's networks have no use for."""
    if has_changes:
        raise ValueError(f"{request.bundle}: {NO_CONFIG}")
    if request.cases.prompts is not None:
        raise ValueError("--prompts is for promptable networks; those of nnU-Net take images alone")
    if request.options["main_output"] is not None:
        raise ValueError("--main-output is for networks of several outputs; those of nnU-Net have one")
    if request.uncertainty.on:
        raise ValueError("--uncertainty is not there for folders of nnU-Net: its own export brings labels back, and no map")
