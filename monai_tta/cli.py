"""The command line: `monai-tta`, or `python -m monai_tta`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monai_tta import bundle as bundles
from monai_tta import methods as exported
from monai_tta import overlay as overlays
from monai_tta import profile as profiles
from monai_tta.compare import compare as compared
from monai_tta.demo import make_demo
from monai_tta.protocol import chosen_contenders, chosen_domains, protocol_of
from monai_tta.scans import find_images
from monai_tta.tables import Row, markdown, write_rows

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Test-time adaptation for medical image segmentation.")
console = Console(stderr=True)
PRECISION = "exact"


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """Say these errors in one line and end with code 2: what was asked for can't be done."""
    try:
        yield
    except kinds as error:
        console.print(str(error), markup=False, highlight=False, style="red")
        raise typer.Exit(2) from error


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
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
) -> None:
    """Segment images with a bundle's network, adapted to each; masks are in each image's own space.

    records.json has an entry for each image in the order in which they were taken, null where one failed.
    """
    with refusing(ValueError, OSError):
        chosen = bundles.named_method(method, choose)
        source = bundles.load_bundle(bundle, checkpoint)
        files = find_images(images)
        choices = {"head": head, "learn": learn, "reset": reset, "budget": budget or None, "seed": seed, "precision": precision}
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


@app.command()
def compare(
    bundle: Annotated[Path, typer.Argument(help="a bundle with configs/evaluate.yaml and configs/compare.yaml")],
    dataset_dir: Annotated[Path, typer.Option(help="labelled data; DATA in the bundle's configs/compare.yaml")],
    out: Annotated[Path, typer.Option(help="where rows.csv and table.md go")],
    checkpoint: Annotated[list[str], typer.Option(help="may be given several times")] = ["model.pt"],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="a row of the table, besides Source; may be given several times")] = [],  # noqa: B006
    domain: Annotated[list[str], typer.Option(help="a domain's label; may be given several times")] = [],  # noqa: B006
    budget: Annotated[int, typer.Option(help="how many windows of a volume teach; 0 for all")] = 4,
    precision: Annotated[str, typer.Option(help="exact or fast")] = PRECISION,
) -> None:
    """Score GraTa, its parts and its controls on the real and simulated domains of a bundle's compare.yaml."""
    with refusing(ValueError):
        protocol = protocol_of(bundle)
        chosen_contenders(protocol, only)
        total = len(checkpoint) * len(chosen_domains(protocol, domain))
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    failures: list[str] = []
    with Progress(console=console) as progress:
        todo = compared(bundle, dataset_dir, checkpoint, only, domain, budget=budget or None, precision=precision)
        for done, failure in progress.track(todo, total=total, description="comparing"):
            rows, failures = rows + done, failures + ([failure] if failure else [])
            if rows:
                write_rows(rows, out / "rows.csv")
                (out / "table.md").write_text(markdown(rows, protocol.labels))
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, style="red")
    if failures:
        raise typer.Exit(3)
    Console().print(f"rows.csv and table.md in {out}", markup=False)


@app.command()
def profile(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    method: Annotated[str, typer.Option(help="see `monai-tta methods`")] = "grata",
    choose: Annotated[list[str], typer.Option(help="a choice of the method as NAME=VALUE")] = [],  # noqa: B006
    size: Annotated[str, typer.Option(help="the image's voxels, e.g. 96,96,96; one window in 2D, 64 in 3D if not given")] = "",
    budget: Annotated[int, typer.Option(help="how many windows of a volume teach; 0 for all")] = 4,
    repeats: Annotated[int, typer.Option(help="how often each way is timed")] = 3,
    untrained: Annotated[bool, typer.Option(help="time the network as it is built: no weights are needed")] = False,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    """Time a bundle's plain inferer, its method as papers write it, and ours, exact and fast, on an image of noise."""
    with refusing(ValueError, OSError):
        wanted = tuple(int(n) for n in size.split(",")) if size else None
        if out is not None:  # now, not when all is measured
            out.parent.mkdir(parents=True, exist_ok=True)
        weights = None if untrained else "model.pt"
        job = profiles.Job(bundle, bundles.named_method(method, choose), wanted, budget or None, checkpoint=weights)
        with Progress(console=console) as progress:
            task = progress.add_task("timing", total=repeats + 2)
            for done in profiles.profile(job, repeats):
                progress.update(task, advance=1, description=done if isinstance(done, str) else "done")
    assert isinstance(done, profiles.Profile)
    _show(done)
    if out is not None:
        out.write_text(done.to_json())


def _show(found: profiles.Profile) -> None:
    """A profile as a table."""
    shape = " x ".join(str(n) for n in found.shape[2:])
    device = f"{found.threads} threads, {found.device}, {found.rate:.0f} and fast {found.rate_fast:.0f} GFLOP/s"
    table = Table("way", "s", "from - to", "x plain", "faster than paper", "MiB", "GFLOP", "of floor", title=f"{shape}: {device}")
    typical = {cost.way: cost.typical for cost in found.costs}
    for cost in found.costs:
        ratios = (f"{cost.typical / typical['plain']:.2f}", f"{typical['paper order'] / cost.typical:.2f}")
        spread = f"{min(cost.seconds):.3g} - {max(cost.seconds):.3g}"
        memory = "" if cost.memory is None else f"{cost.memory:.0f}"
        table.add_row(cost.way, f"{cost.typical:.3g}", spread, *ratios, memory, f"{cost.operations:.0f}", f"{cost.floor:.0%}")
    Console().print(table)
    Console().print(f"{found.method}; {found.windows} windows", soft_wrap=True, markup=False)


def main() -> None:
    """Entry point of `monai-tta`."""
    app()
