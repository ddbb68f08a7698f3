"""`monai-tta compare`: methods over a bundle's real and simulated domains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from monai_tta.commands.saying import PRECISION, console, refusing
from monai_tta.compare import compare as compared
from monai_tta.protocol import chosen_contenders, chosen_domains, protocol_of
from monai_tta.tables import Row, markdown, write_rows


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
