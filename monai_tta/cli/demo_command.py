"""`monai-tta demo`: a first picture, of an image that no network here was trained on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import AsJson, help_end
from monai_tta.cli.progress import show_progress

HELP_END = help_end("monai-tta demo --out demo")
COLUMNS = ("region", "unadapted voxels", "adapted voxels", "mask changed", "weights moved", "s unadapted", "s adapted")


def demo(
    out: Annotated[Path, typer.Option(help="the folder for pictures, masks and records")] = Path("demo"),
    as_json: AsJson = False,
) -> None:
    """Find the hippocampi of the ICBM-152 template, unadapted and adapted by GraTa."""
    with report_errors():
        from monai_tta.cli.demo import make_demo

        with show_progress("adapting", 2, "regions") as progress:
            regions = make_demo(out, progress.advance)
    if as_json:
        print_json({"regions": [asdict(region) for region in regions], "out": str(out.resolve())})
        return
    rows = [
        (
            r.region,
            str(r.plain_voxels),
            str(r.adapted_voxels),
            f"{r.changed_fraction:.2%}",
            f"{r.adapted.weight_distance:.2g}",
            f"{r.plain.seconds:.2f}",
            f"{r.adapted.seconds:.2f}",
        )
        for r in regions
    ]
    print_table(COLUMNS, rows)
    print_line(f"pictures, masks and records: {out.resolve()}")
