"""`monai-tta train-optimizer`: train the learned optimiser of a bundle's network, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.calibrate import CalibrationBundle, Keys
from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import AsJson, Checkpoint, Device, Seed, check_dataset_dir, check_new_file, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.core.learned_optimizer_file import TrainedOptimizer

HELP_END = help_end("monai-tta train-optimizer BUNDLE --dataset-dir DATA --set split=source_train")


def train_optimizer(
    bundle: CalibrationBundle,
    dataset_dir: Annotated[Path, typer.Option(help="the source's data, as the bundle's evaluate config reads them")],
    out: Annotated[
        Path | None, typer.Option(help="the learned optimiser's file; models/learned_optimizer.npz in the bundle if not given")
    ] = None,
    checkpoint: Checkpoint = None,
    set_: Keys = [],  # noqa: B006
    images: Annotated[int, typer.Option(help="how many source images at most, the first ones", min=1)] = 32,
    size: Annotated[int, typer.Option(help="how many distorted images are made of them", min=1)] = 32,
    epochs: Annotated[int, typer.Option(help="how often each of these is stepped on", min=1)] = 10,
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train the learned optimiser of `--method mgg` on distorted source images.

    Labels are read where the bundle's config lists them, and not used. The
    file holds numbers alone, no image and no name.
    """
    with report_errors():
        root = find_bundle(bundle)
        check_dataset_dir(dataset_dir)

        from monai_tta.core.learned_optimizer_file import TrainedOptimizer, optimizer_file
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.config_changes import ConfigChanges
        from monai_tta.preparation.calibrate import parse_keys
        from monai_tta.preparation.train_optimizer import OptimizerTraining, train_bundle_optimizer

        settings = OptimizerTraining(images=images, size=size, epochs=epochs, seed=seed)
        weights = checkpoint_name(root, checkpoint, ConfigChanges.of((), parse_keys(set_)), ("evaluate",))
        file = out or optimizer_file(root / "models" / weights)
        check_new_file(file)
        with show_progress("training", settings.steps, "steps") as progress:
            for done in train_bundle_optimizer(root, dataset_dir, weights, settings, parse_keys(set_), device):
                if isinstance(done, TrainedOptimizer):
                    trained = done
                else:
                    progress.move_to(done, settings.steps, "steps")
        file.parent.mkdir(parents=True, exist_ok=True)
        trained.save(file)
    if as_json:
        print_json({"found": trained.about, "written": str(file)})
    else:
        _print_optimizer(trained, file)


def _print_optimizer(trained: TrainedOptimizer, file: Path) -> None:
    print_table(["of", "found"], [(name, str(value)) for name, value in trained.about.items()])
    print_line(
        f"written: {file}; `monai-tta run --method mgg` finds it in its bundle; elsewhere add --choose optimizer.file=FILE"
    )
