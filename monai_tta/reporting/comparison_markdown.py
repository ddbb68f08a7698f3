"""The conclusion and all tables of a comparison, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_tta.reporting.conclusion import conclusions
from monai_tta.reporting.overview import overviews
from monai_tta.reporting.summary import Table, title
from monai_tta.reporting.tables import ABOUT, detail_cells, group_cells, key_cells, markdown_table, notes


def markdown(tables: Sequence[Table], settings: Mapping[str, Any]) -> str:
    """The conclusion, all domains together, and each table with its notes.

    Args:
        tables: of `monai_tta.reporting.summary.tables_of`.
        settings: of the rows' file.
    """
    paragraphs = []
    for conclusion in conclusions(tables):
        paragraphs.append(f"**Conclusion ({conclusion.about}):** {' '.join(conclusion.sentences)} {conclusion.note}".strip())
    paragraphs.append(ABOUT)
    for overview in overviews(tables):
        paragraphs += [f"**{overview.title}**", markdown_table(overview.grid)]
    for table in tables:
        paragraphs.append(f"**{title(table)}**")
        paragraphs.append(markdown_table(key_cells(table)))
        paragraphs.append(markdown_table(detail_cells(table, settings)))
        paragraphs += [markdown_table(groups)] if (groups := group_cells(table)) else []
        paragraphs += notes(table)
    return "\n\n".join(paragraphs) + "\n"
