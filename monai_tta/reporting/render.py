"""Writes the tables, plots and page of a comparison from its rows alone. Neither the bundle nor the data are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from monai_tta.reporting.comparison_markdown import markdown
from monai_tta.reporting.example_cases import example_cases
from monai_tta.reporting.page import Picture, Plot, page
from monai_tta.reporting.rows import Row, RowFile, RowsError
from monai_tta.reporting.summary import SOURCE, Table, file_name, tables_of
from monai_tta.reporting.tables import comma_separated

PICTURES = "pictures"  # the folder of example cases beside the rows


def render_comparison(folder: Path, csv: bool = False) -> list[Path]:
    """Write ``table.md``, ``table.html`` and, where matplotlib is installed, ``plots/*.png`` from ``rows.sqlite`` in a folder.

    The page holds the example cases in ``pictures``, where there are any.

    Args:
        folder: the ``--out`` of `monai-tta compare`.
        csv: whether to write the raw rows as ``rows.csv``, too.

    Returns:
        the files that were written.

    Raises:
        RowsError: when there are no rows.
    """
    path = folder / "rows.sqlite"
    if not path.is_file():
        raise RowsError(f"{folder} has no rows.sqlite; choose the folder that was --out of monai-tta compare")
    file = RowFile(path)
    try:
        rows = file.rows()
        settings = file.settings()
    finally:
        file.close()
    if not rows:
        raise RowsError(f"{path} has no rows yet; run monai-tta compare again, it resumes where it stopped")
    tables = tables_of(rows)
    plots = list(_plots(tables))
    pictures = list(_pictures(folder / PICTURES, tables, rows))
    seeds = sorted({row.key.seed for row in rows})
    written = {
        "table.md": markdown(tables, settings).encode(),
        "table.html": page(tables, settings, plots, pictures, seeds).encode(),
    }
    written |= {f"plots/{plot.name}.png": plot.png for plot in plots}
    written |= {"rows.csv": comma_separated(rows).encode()} if csv else {}
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in written]


def _pictures(folder: Path, tables: Sequence[Table], rows: Sequence[Row]) -> Iterator[Picture]:
    """The pictures that are there, of cases that are still the worst, median or best of their table."""
    if folder.is_dir():
        for example in (example for table in tables for example in example_cases(table, rows)):
            if (path := folder / example.picture).is_file():
                yield Picture(example, path.read_bytes())


def _plots(tables: Sequence[Table]) -> Iterator[Plot]:
    """The plots; none without matplotlib, which is optional."""
    try:
        from monai_tta.reporting import plots
    except ImportError:
        return
    for table in tables:
        if any(line.pairs for line in table.lines if line.contender != SOURCE):
            where = file_name(table.checkpoint, table.domain, str(table.budget or "all"))
            yield Plot(f"cases_{where}", "Case by case", plots.png(plots.slopes(table)), table)
            yield Plot(f"harm_{where}", "Harm and gain", plots.png(plots.harm_and_gain(table)), table)
    for place, several in groupby(tables, lambda table: (table.checkpoint, table.domain)):
        own = list(several)
        if len(own) > 1:
            yield Plot(f"budgets_{file_name(*place)}", f"Budget: {', '.join(place)}", plots.png(plots.budgets(own)))
