"""`monai-tta compare`: methods over a bundle's real and simulated domains; `monai-tta tables`: draw its results again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from monai_tta.cli.console import PRECISION, console, report_errors
from monai_tta.evaluation.compare import compare as compared
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.reporting.render import render_comparison
from monai_tta.reporting.rows import METRICS


def compare(
    bundle: Annotated[Path, typer.Argument(help="a bundle with configs/evaluate.yaml and configs/compare.yaml")],
    dataset_dir: Annotated[Path, typer.Option(help="labelled data; DATA in the bundle's configs/compare.yaml")],
    out: Annotated[Path, typer.Option(help="where rows.sqlite, tables and plots go; give it again to go on")],
    checkpoint: Annotated[list[str], typer.Option(help="may be given several times")] = ["model.pt"],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="a row of the table, besides Source; may be given several times")] = [],  # noqa: B006
    domain: Annotated[list[str], typer.Option(help="a domain's label; may be given several times")] = [],  # noqa: B006
    severity: Annotated[list[int], typer.Option(help="1 to 5, of simulated scanners; may be given several times")] = [],  # noqa: B006
    budget: Annotated[list[int], typer.Option(help="windows of a volume that teach, 0 for all; several times: a curve")] = [4],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="may be given several times")] = [0],  # noqa: B006
    ablations: Annotated[bool, typer.Option("--ablations", help="add GraTa without its parts, see docs/compare.md")] = False,
    metrics: Annotated[str, typer.Option(help="which are computed; dice alone is fast")] = ",".join(METRICS),
    precision: Annotated[str, typer.Option(help="exact or fast")] = PRECISION,
    workers: Annotated[int, typer.Option(help="processes; 0 for one per core")] = 0,
) -> None:
    """Score GraTa, its parts and its controls on the real and simulated domains of a bundle's compare.yaml.

    The same command again goes on where it was stopped.
    """
    some: dict[str, Any] = {"precision": precision, "metrics": tuple(m.strip().lower() for m in metrics.split(","))}
    some |= {"checkpoints": tuple(checkpoint), "only": tuple(only), "domains": tuple(domain), "severities": tuple(severity)}
    failures: list[str] = []
    with report_errors(ValueError):
        plan = ComparisonPlan(
            root=bundle, dataset_dir=dataset_dir, budgets=tuple(budget), seeds=tuple(seed), ablations=ablations, **some
        )
        with Progress(console=console) as progress:
            task = progress.add_task("comparing", total=None)
            for done, total, wrong in compared(plan, out, workers or None):
                progress.update(task, completed=done, total=total or None)
                failures += wrong
    for failure in dict.fromkeys(failures):
        console.print(f"failed: {failure}", markup=False, style="red")
    try:
        tables(out)
    except typer.Exit:
        if not failures:
            raise
    if failures:
        raise typer.Exit(3)


def tables(
    folder: Annotated[Path, typer.Argument(help="what was --out of monai-tta compare")],
    csv: Annotated[bool, typer.Option("--csv", help="write the raw rows as rows.csv, too")] = False,
) -> None:
    """Draw the tables and plots of a comparison again, from its rows alone."""
    with report_errors(ValueError, OSError):
        written = render_comparison(folder, csv)
    if not find_spec("matplotlib"):
        console.print("no plots: they need matplotlib, pip install 'monai-tta[report]'", markup=False)
    Console().print(f"{', '.join(p.name for p in written if p.parent == folder)} in {folder}", markup=False)
