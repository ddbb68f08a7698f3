"""`monai-tta rehearsal`: keep a few of the source's features, so that a stream can rehearse them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.calibrate import CalibrationBundle, Keys
from monai_tta.cli.console import print_json, print_line, report_errors
from monai_tta.cli.options import AsJson, Checkpoint, Device, Seed, check_dataset_dir, check_new_file, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

HELP_END = help_end("monai-tta rehearsal BUNDLE --dataset-dir DATA --set split=source_train")


def rehearsal(
    bundle: CalibrationBundle,
    dataset_dir: Annotated[Path, typer.Option(help="the source's images, as the bundle's evaluate config reads them")],
    out: Annotated[
        Path | None, typer.Option(help="the file of features; models/rehearsal.npz in the bundle if not given")
    ] = None,
    checkpoint: Checkpoint = None,
    set_: Keys = [],  # noqa: B006
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Keep a few of the source's features, for `--method rehearsal` in streams.

    The file holds no image and no name, but pieces of features of a few
    images. Early features look like the image: treat the file as you treat
    the source's images.
    """
    with report_errors():
        root = find_bundle(bundle)
        check_dataset_dir(dataset_dir)
        if not find_spec("sklearn"):  # told now, not after the work
            raise ImportError("choosing features needs scikit-learn: pip install 'monai-tta[calibrate]'")

        from monai_tta.core.stored_features import features_file
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.config_changes import ConfigChanges
        from monai_tta.preparation.calibrate import parse_keys
        from monai_tta.preparation.rehearsal import rehearsal_of_bundle

        weights = checkpoint_name(root, checkpoint, ConfigChanges.of((), parse_keys(set_)), ("evaluate",))
        file = out or features_file(root / "models" / weights)
        check_new_file(file)
        with show_progress("reading", None, "images") as progress:
            for done in rehearsal_of_bundle(root, dataset_dir, weights, parse_keys(set_), seed, device):
                if isinstance(done, int):
                    progress.advance("image read")
                else:
                    stored = done
        file.parent.mkdir(parents=True, exist_ok=True)
        stored.save(file)
        size = file.stat().st_size
    if as_json:
        print_json({"found": {**stored.about, "units": list(stored.units), "bytes": size}, "written": str(file)})
        return
    about = stored.about
    print_line(f"features of {about['samples']} of {about['windows']} windows, {len(stored.units)} units, {size / 1000:.0f} kB")
    print_line(f"written: {file}; `monai-tta` finds it in its bundle; elsewhere give --method rehearsal --choose file=FILE")
