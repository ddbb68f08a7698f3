"""`monai-tta pretrain-added`: train parameters that are added to a bundle's network, where its own images are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors, say
from monai_tta.cli.options import AsJson, Bundle, Checkpoint, Device, Seed, check_dataset_dir, check_new_file, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.core.added_files import AddedFile

HELP = """Train parameters that are added to a bundle's network.

They learn from unlabelled images of the network's source, distorted as
other scanners might show them. The network itself stays as it is. A
method may then start from them: --choose select=Added
--choose select.file=FILE

The file holds numbers alone, no image and no name, and fits this
checkpoint only. With it the network answers differently from the start.
"""
HELP_END = help_end(
    "monai-tta pretrain-added BUNDLE --dataset-dir IMAGES --out added.npz",
    "monai-tta run BUNDLE SCANS --out MASKS --method consistency --choose select=Added --choose select.file=added.npz",
    codes=(0, 2, 3),
)


def pretrain_added(
    bundle: Bundle,
    dataset_dir: Annotated[Path, typer.Option(help="a folder of the source's images, without labels")],
    out: Annotated[Path, typer.Option(help="the .npz file to write")],
    checkpoint: Checkpoint = None,
    kind: Annotated[str, typer.Option(help="what is added to each convolution: lora or adapter")] = "lora",
    rank: Annotated[int, typer.Option(help="channels of its bottleneck", min=1)] = 2,
    where: Annotated[str, typer.Option(help="a regular expression that a convolution's name must match; all if not given")] = "",
    statistics: Annotated[
        str, typer.Option(help="window or source: whose normalisation statistics; as the method will use them")
    ] = "window",
    steps: Annotated[int, typer.Option(help="how many optimiser steps", min=1)] = 200,
    budget: Annotated[int, typer.Option(help="how many windows of an image a step sees", min=1)] = 2,
    measured: Annotated[int, typer.Option(help="with how many distortions agreement is measured, before and after", min=1)] = 32,
    lr: Annotated[float, typer.Option(help="the learning rate of the first step; it falls to zero", min=0)] = 1e-3,
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train parameters that are added to a bundle's network, on unlabelled images of its source."""
    with report_errors():
        root = find_bundle(bundle)
        check_dataset_dir(dataset_dir, "images")
        check_new_file(out)

        from monai_tta.core.added_parameters import Added
        from monai_tta.core.optimizers import Adam
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.preparation.pretrain_added import PretrainingSettings
        from monai_tta.preparation.pretrain_bundle import pretrain_bundle

        added = Added(kind=kind, rank=rank, where=where, seed=seed)  # type: ignore[arg-type]
        settings = PretrainingSettings(
            select=added,
            statistics=statistics,  # type: ignore[arg-type]
            optimizer=Adam(lr=lr),
            steps=steps,
            budget=budget,
            measured=measured,
            seed=seed,
        )
        weights = checkpoint_name(root, checkpoint)
        trained, failed = _follow(pretrain_bundle(root, dataset_dir, weights, settings, device), steps)
        out.parent.mkdir(parents=True, exist_ok=True)
        trained.save(out)
    _print_trained(trained, out, as_json)
    if trained.about["agreement, distorted, after"] <= trained.about["agreement, distorted, before"]:
        say("with these parameters distorted images are answered no better than without: do not use them", "yellow")
    if failed:
        raise typer.Exit(3)


def _follow(training: Iterator[str | int | AddedFile], steps: int) -> tuple[AddedFile, bool]:
    """Show how a training goes; what it made, and whether an image could not be read."""
    failed = False
    with show_progress("training", steps, "steps") as progress:
        for done in training:
            if isinstance(done, str):
                failed = True
                say(f"not read: {done}", "red")
            elif isinstance(done, int):
                progress.move_to(done, steps, "steps")
            else:
                trained = done
    return trained, failed


def _print_trained(trained: AddedFile, out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"found": dict(trained.about), "choices": dict(trained.choices), "written": str(out)})
        return
    rows = [(name, f"{value:.3f}" if isinstance(value, float) else str(value)) for name, value in trained.about.items()]
    print_table(["of", "found"], rows)
    print_line(f"written: {out}; give a method --choose select=Added --choose select.file={out}")
