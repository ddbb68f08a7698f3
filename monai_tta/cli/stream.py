"""`monai-tta stream`: methods in continual use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.console import print_line, report_errors, say
from monai_tta.cli.options import (
    Checkpoint,
    DatasetDir,
    Device,
    EvaluationBundle,
    Limit,
    PrecisionOption,
    check_dataset_dir,
    check_new_folder,
    help_end,
)
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.reporting.stream_rows import StreamRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monai_tta.evaluation.kept_streams import KeptStreams

HELP_END = help_end("monai-tta stream BUNDLE --dataset-dir DATA --out OUT --limit 4", codes=(0, 2, 3, 130))

Domains = Annotated[list[str], typer.Option(help="a domain's label, the source first; may be given several times")]


def stream(
    bundle: EvaluationBundle,
    dataset_dir: DatasetDir,
    out: Annotated[Path, typer.Option(help="the folder for rows.jsonl, table.md and streams.svg")],
    checkpoint: Checkpoint = None,
    only: Annotated[list[str], typer.Option(help="a contender, besides Source; may be given several times")] = [],  # noqa: B006
    domain: Domains = [],  # noqa: B006
    orders: Annotated[int, typer.Option(min=1, help="how many orders to draw")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="how often a stream goes over its cases")] = 3,
    limit: Limit = 0,
    budget: Annotated[int, typer.Option(min=0, help="on how many windows of a volume a method adapts; 0 for all")] = 4,
    precision: PrecisionOption = "exact",
    device: Device = None,
    workers: Annotated[int, typer.Option(min=0, help="processes; 0 for one per core")] = 0,
) -> None:
    """Follow GraTa and its baselines along streams of a bundle's domains.

    Domains come one after the other and mixed, in several orders, round after
    round, and then the source again. After Ctrl-C or a kill the same command
    goes on with the contenders that are left.
    """
    failures: list[str] = []  # of contenders
    with report_errors():
        root = find_bundle(bundle)
        check_dataset_dir(dataset_dir)
        check_new_folder(out)

        from monai_tta.evaluation import kept_streams
        from monai_tta.evaluation.contenders import stream_contenders
        from monai_tta.evaluation.protocol import chosen_domains, protocol_of
        from monai_tta.evaluation.streams import StreamPlan, streams
        from monai_tta.pipeline.checkpoint import checkpoint_name

        protocol = protocol_of(root)
        chosen_domains(protocol, domain)
        contenders = stream_contenders(protocol, only)
        weights = checkpoint_name(root, checkpoint)
        plan = StreamPlan(tuple(domain), tuple(range(orders)), rounds, limit or None)
        choices = {"budget": budget or None, "precision": precision}
        settings = kept_streams.stream_settings(root, dataset_dir, plan, contenders, weights, device, **choices)
        labels = [contender.label for contender in contenders]
        with kept_streams.opened(out, settings) as kept:
            left = [label for label in labels if label not in kept.done]
            if len(left) < len(labels):
                say(f"{len(labels) - len(left)} of {len(labels)} contenders are done already in {out}")
            if left:
                todo = streams(root, dataset_dir, plan, only, weights, workers or None, device, kept.done, **choices)
                failures = _follow(todo, len(left), kept)
    for failure in failures:
        say(f"failed: {failure}", "red")
    with report_errors():
        _write_report(_in_order(kept.rows, labels), out)
    if failures:
        raise typer.Exit(3)


def _follow(todo: Iterator[tuple[list[StreamRow], str | None]], size: int, kept: KeptStreams) -> list[str]:
    """Keep the rows of each contender as it is done; what went wrong with others."""
    failures = []
    with show_progress("following", size, "contenders") as progress:
        for done, failure in todo:
            if failure:
                failures.append(failure)
            else:
                kept.add(done)
            progress.advance("a contender failed" if failure else f"{done[0].contender} followed")
    return failures


def _in_order(rows: list[StreamRow], labels: list[str]) -> list[StreamRow]:
    """The rows of these contenders in this order, and then those of others that were done before."""
    place = {label: number for number, label in enumerate(dict.fromkeys([*labels, *(row.contender for row in rows)]))}
    return sorted(rows, key=lambda row: place[row.contender])


def _write_report(rows: list[StreamRow], out: Path) -> None:
    """Write table and plot, where Source is there to compare with."""
    from monai_tta.reporting.stream_tables import plot_streams, stream_markdown

    if not any(row.contender == "Source" for row in rows):
        say("no table: Source, with which all are compared, failed")
        return
    (out / "table.md").write_text(stream_markdown(rows), encoding="utf-8")
    try:
        plot_streams(rows, out / "streams.svg")
    except ImportError as error:
        say(str(error))
    print_line(f"rows.jsonl and table.md in {out}")
