"""All tables and plots of a comparison, drawn from its rows alone: neither bundle nor data are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from monai_tta.reporting.rows import RowFile, RowsError
from monai_tta.reporting.summary import SOURCE, Table, tables_of
from monai_tta.reporting.tables import Plot, comma_separated, markdown, page


def render_comparison(folder: Path, csv: bool = False) -> list[Path]:
    """Write ``table.md``, ``table.html`` and, where matplotlib is installed, ``plots/*.png`` from ``rows.sqlite`` in a folder.

    Args:
        folder: what was given to `monai-tta compare` as ``--out``.
        csv: whether the raw rows are written as ``rows.csv``, too.

    Returns:
        what was written.

    Raises:
        RowsError: when there are no rows.
    """
    path = folder / "rows.sqlite"
    if not path.is_file():
        raise RowsError(f"{folder} has no rows.sqlite; give the folder that was --out of monai-tta compare")
    file = RowFile(path)
    try:
        rows, settings = file.rows(), file.settings()
    finally:
        file.close()
    if not rows:
        raise RowsError(f"{path} has no rows yet; run monai-tta compare again, it goes on where it was stopped")
    tables = tables_of(rows)
    plots = list(_plots(tables))
    written = {"table.md": markdown(tables, settings).encode(), "table.html": page(tables, settings, plots).encode()}
    written |= {f"plots/{plot.name}.png": plot.png for plot in plots}
    written |= {"rows.csv": comma_separated(rows).encode()} if csv else {}
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in written]


def _plots(tables: Sequence[Table]) -> Iterator[Plot]:
    """None without matplotlib, which is an extra."""
    try:
        from monai_tta.reporting import plots
    except ImportError:
        return
    for table in tables:
        if any(line.pairs for line in table.lines if line.contender != SOURCE):
            where = _slug(table.checkpoint, table.domain, str(table.budget or "all"))
            yield Plot(f"cases_{where}", "Case by case", plots.png(plots.slopes(table)), table)
            yield Plot(f"harm_{where}", "Harm and gain", plots.png(plots.harm_and_gain(table)), table)
    for place, several in groupby(tables, lambda t: (t.checkpoint, t.domain)):
        of = list(several)
        if len(of) > 1:
            yield Plot(f"budgets_{_slug(*place)}", f"Budget: {', '.join(place)}", plots.png(plots.budgets(of)))


def _slug(*words: str) -> str:
    """A file's name made of words."""
    return re.sub(r"[^\w.-]+", "-", "_".join(words))
