"""`monai-tta reference`: what a source's own cases are like, for guards to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from monai_tta.cli.console import console, report_errors
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.guards.reference_ranges import ranges_of_cases
from monai_tta.pipeline.bundle import BundleError, load_bundle
from monai_tta.pipeline.find_images import find_images
from monai_tta.preparation.measure_source import measure_images, measure_labelled


def reference(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    out: Annotated[Path, typer.Option(help="the JSON file to write")],
    images: Annotated[list[Path] | None, typer.Argument(help="unlabelled source images, or folders of them")] = None,
    dataset_dir: Annotated[Path | None, typer.Option(help="labelled data instead; DATA in configs/compare.yaml")] = None,
    domain: Annotated[str, typer.Option(help="of configs/compare.yaml; its first unless told")] = "",
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
) -> None:
    """Measure the source's own cases: structures' volume, pieces and shape, entropy, distance of statistics layer by layer.

    Structures are measured in the network's answers to IMAGES, or in the labels of a domain with --dataset-dir. Use cases that
    the network was not trained on.
    """
    with report_errors(ValueError, OSError):
        if bool(images) == (dataset_dir is not None):
            raise BundleError("give either images of the source, or --dataset-dir with labelled ones")
        source = load_bundle(bundle, checkpoint)
        if dataset_dir is None:
            files = find_images(images or [])
            todo, total = measure_images(source, files), len(files)
        else:
            todo = measure_labelled(source, bundle, dataset_dir, domain or protocol_of(bundle).domains[0].label)
            total = None
        with Progress(console=console) as progress:
            found = list(progress.track(todo, total=total, description="measuring"))
        for _, error in found:
            if error:
                console.print(f"not measured: {error}", markup=False, style="red")
        made = ranges_of_cases([figures for figures, _ in found if figures is not None], labelled=dataset_dir is not None)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made.to_json() + "\n", encoding="utf-8")
    Console().print(f"reference ranges of {made.cases} cases in {out}", soft_wrap=True, markup=False)
    if made.cases < len(found):
        raise typer.Exit(3)
