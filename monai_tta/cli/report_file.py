"""The file of the page on a run: written by `monai-tta report`, and by `monai-tta run --report` at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.console import print_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monai_tta.reporting.slice_pictures import CasePictures

DEFAULT_ACCEPT = 0.8
PAGE = "report.html"  # the usual name


def write_report(
    document: Mapping[str, Any], file: Path, accept: float | None, pictures: Mapping[int, CasePictures] = {}
) -> None:
    """Write the page, and say where.

    Args:
        document: what records.json holds.
        file: where to.
        accept: the Dice that a mask must have; None for .8 where the records know what masks are worth.
        pictures: by the number of a case.
    """
    from monai_tta.pipeline.output_folder import write_atomically
    from monai_tta.reporting.report_page import report_page

    if accept is None and any(case.get("quality") for case in document["cases"]):
        accept = DEFAULT_ACCEPT
    write_atomically(file, report_page(document, accept, pictures))
    print_line(f"written: {file}")
