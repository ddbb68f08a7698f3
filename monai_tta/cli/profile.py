"""`monai-tta profile`: what adapting costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monai_tta.cli.console import BUDGET, budget_of, console, report_errors
from monai_tta.evaluation import costs as profiles
from monai_tta.pipeline import bundle as bundles


def profile(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    method: Annotated[str, typer.Option(help="see `monai-tta methods`")] = "grata",
    choose: Annotated[list[str], typer.Option(help="a choice of the method as NAME=VALUE")] = [],  # noqa: B006
    size: Annotated[str, typer.Option(help="the image's voxels, e.g. 96,96,96; one window in 2D, 64 in 3D if not given")] = "",
    budget: Annotated[int | None, BUDGET] = None,
    repeats: Annotated[int, typer.Option(help="how often each way is timed")] = 3,
    untrained: Annotated[bool, typer.Option(help="time the network as it is built: no weights are needed")] = False,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    """Time a bundle's plain inferer, its method as papers write it, and ours, exact and fast, on an image of noise."""
    with report_errors(ValueError, OSError):
        wanted = tuple(int(n) for n in size.split(",")) if size else None
        if out is not None:  # now, not when all is measured
            out.parent.mkdir(parents=True, exist_ok=True)
        weights = None if untrained else "model.pt"
        job = profiles.CostJob(bundle, bundles.named_method(method, choose), wanted, budget_of(budget), checkpoint=weights)
        with Progress(console=console) as progress:
            task = progress.add_task("timing", total=repeats + 2)
            for done in profiles.profile(job, repeats):
                progress.update(task, advance=1, description=done if isinstance(done, str) else "done")
    assert isinstance(done, profiles.Profile)
    _show(done)
    if out is not None:
        out.write_text(done.to_json(), encoding="utf-8")


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
