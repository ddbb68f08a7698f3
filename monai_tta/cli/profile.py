"""`monai-tta profile`: what adapting costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import (
    AsJson,
    Budget,
    Bundle,
    Checkpoint,
    Choices,
    ConfigEntries,
    ConfigFiles,
    Device,
    check_new_file,
    complete_method,
    help_end,
    parse_budget,
    parse_changes,
)
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.method_by_name import find_method_name, named_method
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.evaluation.costs import Profile

HELP_END = help_end("monai-tta profile hippocampus_mri --size 96,96,96 --repeats 5")
COLUMNS = ("way", "s", "from - to", "x unadapted", "faster than paper", "MiB", "GFLOP", "of the matrix rate")


def profile(
    bundle: Bundle,
    method: Annotated[str, typer.Option(help="see `monai-tta methods`", autocompletion=complete_method)] = "grata",
    choose: Choices = [],  # noqa: B006
    size: Annotated[str, typer.Option(help="the image's voxels, e.g. 96,96,96; one window in 2D and 64 in 3D if not given")] = "",
    budget: Budget = None,
    checkpoint: Checkpoint = None,
    set_: ConfigEntries = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    device: Device = None,
    repeats: Annotated[int, typer.Option(help="how often each way is timed", min=1)] = 3,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="time the network as it is built: no weights are needed")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
    as_json: AsJson = False,
) -> None:
    """Time a bundle's own inferer, a method as its paper does it, and ours, exact and fast, on an image of noise."""
    with report_errors():
        root = find_bundle(bundle, nnunet=True)
        find_method_name(method)
        shape = parse_size(size)
        changes = parse_changes(config, set_)
        if out is not None:  # now, not when all is measured
            check_new_file(out)

        from monai_tta.evaluation.cost_job import CostJob
        from monai_tta.evaluation.costs import profile as measure_costs
        from monai_tta.pipeline.checkpoint import checkpoint_name

        weights = None if untrained else checkpoint_name(root, checkpoint, changes)
        where: dict[str, Any] = {"checkpoint": weights, "device": device, "changes": changes}
        job = CostJob(root, named_method(method, choose), shape, parse_budget(budget), **where)
        with show_progress("timing", repeats + 2, "steps") as progress:
            doing = ""
            for step in measure_costs(job, repeats):
                if doing:  # each step is told when it begins
                    progress.advance(f"{doing}: done")
                if isinstance(step, str):
                    doing = step
                else:
                    found = step
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(found.to_json(), encoding="utf-8")
    if as_json:
        print_json(json.loads(found.to_json()))
    else:
        _print_profile(found)


def parse_size(text: str) -> tuple[int, ...] | None:
    """An image's size from "96,96,96"; None for an empty text.

    Raises:
        ValueError: for anything but whole numbers of at least 1.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--size takes whole numbers between commas, e.g. 96,96,96; found {text!r}")
    return tuple(int(part) for part in parts)


def _print_profile(found: Profile) -> None:
    shape = " x ".join(str(n) for n in found.shape[2:])
    device = f"{found.threads} threads, {found.device}, {found.rate:.0f} and fast {found.rate_fast:.0f} GFLOP/s"
    typical = {cost.way: cost.typical for cost in found.costs}
    rows = [
        (
            cost.way,
            f"{cost.typical:.3g}",
            f"{min(cost.seconds):.3g} - {max(cost.seconds):.3g}",
            f"{cost.typical / typical['unadapted']:.2f}",
            f"{typical['paper order'] / cost.typical:.2f}",
            "" if cost.memory is None else f"{cost.memory:.0f}",
            f"{cost.operations:.0f}",
            f"{cost.matrix_rate_share:.0%}",
        )
        for cost in found.costs
    ]
    print_table(COLUMNS, rows, title=f"{shape}: {device}")
    print_line(f"{found.method}; {found.windows} windows")
