"""`monai-tta calibrate`: make a bundle's judge where the labels are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monai_tta.cli.console import console, report_errors
from monai_tta.pipeline.bundle_predictor import predictor_file
from monai_tta.preparation import calibrate as calibrating
from monai_tta.quality.gain_predictor import GainPredictor


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder with configs/evaluate.yaml")],
    dataset_dir: Annotated[Path, typer.Option(help="the source's labelled data, as the bundle's evaluate config reads them")],
    out: Annotated[Path | None, typer.Option(help="the judge's file; models/judge.npz in the bundle unless told")] = None,
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the evaluate config, e.g. split=source_val")] = [],  # noqa: B006
    size: Annotated[int, typer.Option(help="how many distorted images")] = 160,
    budget: Annotated[int, typer.Option(help="how many windows of an image teach")] = 4,
    harm: Annotated[float, typer.Option(help="share of held-out cases that may lose over a point of Dice")] = 0.03,
    seed: Annotated[int, typer.Option(help="seed of all random draws")] = 0,
) -> None:
    """Calibrate the judge of `--method careful` on labelled source images, distorted; no image goes into its file."""
    with report_errors(ValueError, OSError, ImportError):
        trial = calibrating.CalibrationSettings(size=size, budget=budget, harm=harm, seed=seed)
        keys = calibrating.parse_keys(set_)
        todo = calibrating.calibrate(bundle, dataset_dir, checkpoint, trial, keys)
        with Progress(console=console) as progress:
            for done in progress.track(todo, total=size + 1, description="calibrating"):
                last = done
        assert isinstance(last, GainPredictor)
        file = out or predictor_file(bundle, checkpoint)
        file.parent.mkdir(parents=True, exist_ok=True)
        last.save(file)
    table = Table("of", "found")
    for name, value in last.about.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    table.add_row("margin", f"{last.margin:g} spreads")
    Console().print(table)
    Console().print(
        f"written: {file}; monai-tta run --method careful finds it in its bundle; elsewhere --choose judge=FILE",
        soft_wrap=True,
        markup=False,
    )
