"""`monai-tta stream`: methods in continual use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from monai_tta.cli.console import PRECISION, console, report_errors
from monai_tta.evaluation.contenders import stream_contenders
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.evaluation.streams import StreamPlan, streams
from monai_tta.reporting.stream_rows import StreamRow
from monai_tta.reporting.stream_tables import plot_streams, stream_markdown


def stream(
    bundle: Annotated[Path, typer.Argument(help="a bundle with configs/evaluate.yaml and configs/compare.yaml")],
    dataset_dir: Annotated[Path, typer.Option(help="labelled data; DATA in the bundle's configs/compare.yaml")],
    out: Annotated[Path, typer.Option(help="where rows.jsonl, table.md and streams.svg go")],
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
    only: Annotated[list[str], typer.Option(help="a contender, besides Source; may be given several times")] = [],  # noqa: B006
    domain: Annotated[list[str], typer.Option(help="a domain's label, the source first; may be given several times")] = [],  # noqa: B006
    orders: Annotated[int, typer.Option(min=1, help="how many orders are drawn")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="how often a stream goes over its cases")] = 3,
    limit: Annotated[int, typer.Option(min=0, help="cases of each domain at most; 0 for all")] = 0,
    budget: Annotated[int, typer.Option(min=0, help="how many windows of a volume teach; 0 for all")] = 4,
    precision: Annotated[str, typer.Option(help="exact or fast")] = PRECISION,
    workers: Annotated[int, typer.Option(min=0, help="processes; 0 for one for each core")] = 0,
) -> None:
    """Follow GraTa and its baselines along streams of a bundle's domains: one domain after the other and mixed, in several
    orders, round after round, and back to the source."""
    with report_errors(ValueError):
        protocol = protocol_of(bundle)
        chosen_domains(protocol, domain)
        names = [c.label for c in stream_contenders(protocol, only)]
        plan = StreamPlan(tuple(domain), tuple(range(orders)), rounds, limit or None)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[StreamRow] = []
    failures: list[str] = []
    with Progress(console=console) as progress, (out / "rows.jsonl").open("w") as file:
        choices = {"budget": budget or None, "precision": precision}
        todo = streams(bundle, dataset_dir, plan, only, checkpoint, workers or None, **choices)
        for done, failure in progress.track(todo, total=len(names), description="following streams"):
            rows, failures = rows + done, failures + ([failure] if failure else [])
            file.writelines(row.to_json() + "\n" for row in done)
            file.flush()
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, style="red")
    _report(sorted(rows, key=lambda row: names.index(row.contender)), out)
    if failures:
        raise typer.Exit(3)


def _report(rows: list[StreamRow], out: Path) -> None:
    """Write table and plot, where Source is there to measure against."""
    if not any(row.contender == "Source" for row in rows):
        console.print("no table: Source, against which changes are measured, failed", markup=False)
        return
    (out / "table.md").write_text(stream_markdown(rows), encoding="utf-8")
    try:
        plot_streams(rows, out / "streams.svg")
    except ImportError as error:
        console.print(str(error), markup=False)
    Console().print(f"rows.jsonl and table.md in {out}", markup=False)
