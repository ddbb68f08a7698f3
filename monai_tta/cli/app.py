"""The command line: `monai-tta`, or `python -m monai_tta`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monai_tta import methods as exported
from monai_tta.cli.calibrate import calibrate
from monai_tta.cli.compare import compare, tables
from monai_tta.cli.console import console, report_errors
from monai_tta.cli.demo import make_demo
from monai_tta.cli.profile import profile
from monai_tta.cli.reference import reference
from monai_tta.cli.run import run_images
from monai_tta.cli.stream import stream
from monai_tta.pipeline import bundle as bundles
from monai_tta.pipeline import overlay as overlays

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Test-time adaptation for medical image segmentation.")
app.command()(calibrate)
app.command()(compare)
app.command()(tables)
app.command()(profile)
app.command("run")(run_images)
app.command()(stream)
app.command()(reference)


@app.command()
def overlay(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    out: Annotated[Path | None, typer.Option(help="where the overlay goes; adapt_BUNDLE.yaml here unless told")] = None,
    head: Annotated[str | None, typer.Option(help="softmax or sigmoid, where the bundle doesn't say")] = None,
) -> None:
    """Say what adapting a bundle would mean, and write the config file that does it."""
    with report_errors(ValueError, OSError):
        findings = overlays.look(bundle, head)
        table = Table("of", "found")
        for name, value in findings.lines():
            table.add_row(name, value)
        Console().print(table)
        text = overlays.overlay(findings)
    file = out or Path(f"adapt_{bundle.resolve().name}.yaml")
    file.write_text(text, encoding="utf-8")
    Console().print(f"written: {file}", soft_wrap=True, markup=False)


@app.command()
def methods() -> None:
    """List the methods."""
    table = Table("method", "what it does")
    for name in exported.__all__:
        table.add_row(name.lower(), (getattr(exported, name).__doc__ or "").split("\n")[0])
    Console().print(table)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="where pictures, masks and records go")] = Path("demo")) -> None:
    """Find the hippocampi of the ICBM-152 template, plain and adapted by GraTa."""
    with report_errors(ImportError, bundles.BundleError):
        with Progress(console=console) as progress:
            task = progress.add_task("adapting", total=2)
            results = make_demo(out, lambda: progress.advance(task))
    table = Table("region", "plain voxels", "adapted voxels", "mask changed", "weights moved", "s plain", "s adapted")
    for r in results:
        figures = (
            f"{r.changed_fraction:.2%}",
            f"{r.adapted.weight_distance:.2g}",
            f"{r.plain.seconds:.2f}",
            f"{r.adapted.seconds:.2f}",
        )
        table.add_row(r.region, str(r.plain_voxels), str(r.adapted_voxels), *figures)
    Console().print(table)
    Console().print(f"pictures, masks and records: {out.resolve()}", soft_wrap=True)


def main() -> None:
    """Entry point of `monai-tta`."""
    app()
