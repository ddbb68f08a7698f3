"""`monai-tta report`: one page on which of a run's masks can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import print_line, report_errors
from monai_tta.cli.options import help_end
from monai_tta.cli.quality_options import Accept, QualityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP = """Write one page that says which masks of a run can be used.

It reads records.json in the folder of masks, and nothing else: no images,
no masks. The page needs no other file and no net. It names cases as the
records do; after `run --anonymous` it names none.

The verdict comes first. The table can be sorted and filtered, each case
opens for details, and the page prints.
"""
HELP_END = help_end("monai-tta report MASKS", "monai-tta report MASKS --accept 0.85 --file page.html", codes=(0, 2))
DEFAULT_ACCEPT = 0.8
PAGE = "report.html"  # the usual name


def report(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="the --out folder of `monai-tta run`")],
    accept: Accept = None,
    file: Annotated[Path | None, typer.Option(help="the page; MASKS/report.html if not given")] = None,
) -> None:
    """Write one page that says which masks of a run can be used."""
    with report_errors():
        QualityOptions(accept=accept)
        document = read_records(masks)
        write_report(document, file or masks / PAGE, accept)


def write_report(document: Mapping[str, Any], file: Path, accept: float | None) -> None:
    """Write the page, and say where.

    Args:
        document: what records.json holds.
        file: where to.
        accept: the Dice that a mask must have; None for .8 where the records know what masks are worth.
    """
    from monai_tta.pipeline.output_folder import write_atomically
    from monai_tta.reporting.report_page import report_page

    if accept is None and any(case.get("quality") for case in document["cases"]):
        accept = DEFAULT_ACCEPT
    write_atomically(file, report_page(document, accept))
    print_line(f"written: {file}")


def read_records(masks: Path) -> dict[str, Any]:
    """What the records.json of a run holds.

    Args:
        masks: the folder of its masks.

    Raises:
        ValueError: where there is none, or one that `monai-tta run` did not write.
    """
    from monai_tta.pipeline.records import JSON_NAME, SCHEMA, SCHEMA_VERSION

    file = masks / JSON_NAME
    if not file.is_file():
        raise ValueError(f"{masks} has no {JSON_NAME}: give the --out folder of a `monai-tta run`")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        version = document["schema_version"] if document["schema"] == SCHEMA else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no record of `monai-tta run`") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"{file} has version {version} of the records; this version of monai-tta reads {SCHEMA_VERSION}")
    return dict(document)
