"""The command line: `monai-tta`, or `python -m monai_tta`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monai_tta import bundle as bundles
from monai_tta import methods as exported
from monai_tta import overlay as overlays
from monai_tta.commands.calibrate import calibrate
from monai_tta.commands.compare import compare, tables
from monai_tta.commands.guarding import named_guard
from monai_tta.commands.norms import norms as norms_command
from monai_tta.commands.profile import profile
from monai_tta.commands.saying import PRECISION, console, refusing
from monai_tta.commands.stream import stream
from monai_tta.demo import make_demo
from monai_tta.methods.careful import with_own_judge
from monai_tta.scans import find_images

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Test-time adaptation for medical image segmentation.")
app.command()(calibrate)
app.command()(compare)
app.command()(tables)
app.command()(profile)
app.command()(stream)
app.command("norms")(norms_command)


@app.command("run")
def run_images(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    images: Annotated[list[Path], typer.Argument(help="files, DICOM series folders, or folders of either")],
    out: Annotated[Path, typer.Option(help="where masks and records go")],
    method: Annotated[str, typer.Option(help="see `monai-tta methods`")] = "grata",
    choose: Annotated[list[str], typer.Option(help="a choice of the method as NAME=VALUE, e.g. statistics=volume")] = [],  # noqa: B006
    head: Annotated[str, typer.Option(help="softmax, sigmoid or auto")] = "auto",
    learn: Annotated[str, typer.Option(help="volume or window")] = "volume",
    reset: Annotated[str, typer.Option(help="volume, window or never")] = "volume",
    budget: Annotated[int, typer.Option(help="how many windows of a volume teach; 0 for all")] = 4,
    seed: Annotated[int, typer.Option(help="seed of all random draws")] = 0,
    precision: Annotated[str, typer.Option(help="exact or fast")] = PRECISION,
    guard: Annotated[list[str], typer.Option(help="NAME[:VALUE], e.g. volume-change:0.3; may be given several times")] = [],  # noqa: B006
    norms: Annotated[Path | None, typer.Option(help="what `monai-tta norms` wrote, for guards that need it")] = None,
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
) -> None:
    """Segment images with a bundle's network, adapted to each; masks are in each image's own space.

    records.json has an entry for each image in the order in which they were taken, null where one failed.
    """
    with refusing(ValueError, OSError):
        chosen = with_own_judge(bundles.named_method(method, choose), bundle, checkpoint)
        source = bundles.load_bundle(bundle, checkpoint)
        files = find_images(images)
        choices: dict[str, Any] = {"head": head, "learn": learn, "reset": reset, "budget": budget or None, "seed": seed}
        choices |= {"precision": precision, "guard": named_guard(guard, norms)}
        with Progress(console=console) as progress:
            todo = bundles.segment(source, files, out, chosen, **choices)
            outcomes = list(progress.track(todo, total=len(files), description="segmenting"))
    bundles.write_records([o.case for o in outcomes], out / "records.json")
    _say(outcomes, out)


def _say(outcomes: list[bundles.Outcome], out: Path) -> None:
    """Tell how it went; end with code 3 when an image failed."""
    for outcome in outcomes:
        if outcome.case and outcome.case.reason:
            console.print(f"{outcome.image.name}: answered plainly: {outcome.case.reason}", markup=False)
        if outcome.case and outcome.case.reborn:
            console.print(f"{outcome.image.name}: the stream was begun anew: {outcome.case.reborn}", markup=False)
    bad = [o for o in outcomes if o.error]
    console.print(f"{len(outcomes) - len(bad)} of {len(outcomes)} segmented; masks and records.json in {out}", markup=False)
    for outcome in bad:
        console.print(f"failed: {outcome.image.name}: {outcome.error}", markup=False, style="red")
    if bad or not outcomes:
        raise typer.Exit(3)


@app.command()
def overlay(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    out: Annotated[Path | None, typer.Option(help="where the overlay goes; adapt_BUNDLE.yaml here unless told")] = None,
    head: Annotated[str | None, typer.Option(help="softmax or sigmoid, where the bundle doesn't say")] = None,
) -> None:
    """Say what adapting a bundle would mean, and write the config file that does it."""
    with refusing(ValueError, OSError):
        findings = overlays.look(bundle, head)
        table = Table("of", "found")
        for name, value in findings.lines():
            table.add_row(name, value)
        Console().print(table)
        text = overlays.overlay(findings)
    file = out or Path(f"adapt_{bundle.resolve().name}.yaml")
    file.write_text(text)
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
    with refusing(ImportError, bundles.BundleError):
        with Progress(console=console) as progress:
            task = progress.add_task("adapting", total=2)
            results = make_demo(out, lambda: progress.advance(task))
    table = Table("region", "plain voxels", "adapted voxels", "mask changed", "weights moved", "s plain", "s adapted")
    for r in results:
        figures = (f"{r.changed:.2%}", f"{r.adapted.travelled:.2g}", f"{r.plain.seconds:.2f}", f"{r.adapted.seconds:.2f}")
        table.add_row(r.region, str(r.plain_voxels), str(r.adapted_voxels), *figures)
    Console().print(table)
    Console().print(f"pictures, masks and records: {out.resolve()}", soft_wrap=True)


def main() -> None:
    """Entry point of `monai-tta`."""
    app()
