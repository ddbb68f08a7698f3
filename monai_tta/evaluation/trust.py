"""`monai-tta trust`: answers labelled cases, measures signals, and writes how well these tell good answers from bad ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_tta.compute.json_values import finite_json
from monai_tta.evaluation.trust_figures import trust_cases, trust_tables, with_all_signals
from monai_tta.quality.ranking_bootstrap import RESAMPLES
from monai_tta.reporting.page import Plot
from monai_tta.reporting.rows import Row, RowFile, RowsError
from monai_tta.reporting.summary import file_name
from monai_tta.reporting.trust_page import trust_conclusions, trust_page
from monai_tta.reporting.trust_tables import ALL, TrustTable, case_list, markdown

ACCEPT = 0.8  # mean Dice


def write_trust(folder: Path, accept: float = ACCEPT, resamples: int = RESAMPLES) -> list[Path]:
    """Write ``trust.json``, ``trust.csv``, ``trust.md``, ``trust.html`` and the plots from ``rows.sqlite`` in a folder.

    Args:
        folder: the ``--out`` of `monai-tta trust`.
        accept: an answer of less mean Dice has failed.
        resamples: of the bootstrap.

    Returns:
        the files that were written.

    Raises:
        RowsError: for rows without signals, or none.
        ValueError: for an ``accept`` outside of (0, 1].
    """
    if not 0 < accept <= 1:
        raise ValueError(f"a Dice from which an answer is accepted lies between 0 and 1, found {accept:g}")
    rows, settings = _read(folder)
    tables = trust_tables(rows, accept, settings.get("image_lists", {}), resamples)
    plots = list(_plots(tables))
    written = {
        "trust.json": (json.dumps(finite_json(_document(tables, settings, accept)), indent=1) + "\n").encode(),
        "trust.csv": case_list(trust_cases(rows), settings.get("labels") or ()).encode(),
        "trust.md": markdown(tables, accept).encode(),
        "trust.html": trust_page(tables, settings, accept, plots).encode(),
    }
    written |= {f"plots/{plot.name}.png": plot.png for plot in plots}
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in written]


def _read(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows with all their signals, and what they have in common."""
    file = RowFile(folder / "rows.sqlite")
    try:
        rows = with_all_signals(file.rows())
        settings = file.settings()
    finally:
        file.close()
    if not any(row.signals for row in rows):
        raise RowsError(f"{folder} has no rows with signals; choose the folder that was --out of monai-tta trust")
    return rows, settings


def _document(tables: Sequence[TrustTable], settings: dict[str, Any], accept: float) -> dict[str, Any]:
    """What ``trust.json`` holds."""
    known = ("bundle", "versions", "runs", "checkpoints", "domains", "precision", "signals")
    return {
        "made": {name: settings[name] for name in known if name in settings},
        "accept": accept,
        "conclusions": trust_conclusions(tables),
        "tables": [asdict(table) for table in tables],
    }


def _plots(tables: Sequence[TrustTable]) -> Iterator[Plot]:
    """A plot for each checkpoint and domain; none without matplotlib, which is optional."""
    try:
        from monai_tta.reporting import plots, trust_plots
    except ImportError:
        return
    drawn = [table for table in tables if table.lines]
    places = dict.fromkeys((table.checkpoint, table.domain) for table in drawn)
    for checkpoint, domain in sorted(places, key=lambda place: place[1] != ALL):
        own = [table for table in drawn if (table.checkpoint, table.domain) == (checkpoint, domain)]
        name = f"risk_coverage_{file_name(checkpoint, domain)}"
        yield Plot(name, f"Risk and coverage: {checkpoint}, {domain}", plots.png(trust_plots.risk_coverage(own)))
