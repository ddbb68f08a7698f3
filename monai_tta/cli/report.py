"""`monai-tta report`: one page on which of a run's masks can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.console import report_errors
from monai_tta.cli.options import EXIT_CODES, Device, RunEntries, RunFiles, check_new_file, help_end
from monai_tta.cli.quality_options import Accept, QualityOptions
from monai_tta.cli.recorded_run import folder_of_records, read_records
from monai_tta.cli.report_file import PAGE, write_report
from monai_tta.cli.report_pictures import PagePictures, PicturesDrawn, draw_pictures

HELP = """Write one page that says which masks of a run can be used.

It reads records.json in the folder of masks, and nothing else: no images,
no masks. The page needs no other file and no net. It names cases as the
records do; after `run --anonymous` it names none, and with --anonymous it
has numbers in place of names. With --pictures it also shows slices of the
images with their masks, with the maps of uncertainty and the previews where
the run made them, and then holds pixels.

A run does not keep the unadapted answers of adapted cases. With --bundle
BUNDLE they are computed again and drawn beside the adapted ones, as
`monai-tta show --bundle` does for one case; that takes as long as
`run --method source`. Give the bundle of the run; hashes tell whether it is.

The verdict comes first. The table can be sorted and filtered, each case
opens for details, and the page prints.
"""
HELP_END = help_end(
    "monai-tta report MASKS",
    "monai-tta report MASKS --accept 0.85 --out page.html",
    "monai-tta report MASKS --pictures SCANS --bundle hippocampus_mri",
    codes=(0, 2, 3),
    meanings=EXIT_CODES | {3: "a picture, or a part of one, is missing; the page is there"},
)


def report(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="the --out folder of `monai-tta run`, or its records.json")],
    accept: Accept = None,
    out: Annotated[Path | None, typer.Option(help="the page, FILE.html; MASKS/report.html if not given")] = None,
    pictures: Annotated[
        list[Path],
        typer.Option(help="the images, as they were given to `run`: slices of them go into the page; may be given several times"),
    ] = [],  # noqa: B006
    bundle: Annotated[
        Path | None,
        typer.Option(help="the BUNDLE of the run: unadapted answers are computed again, and drawn beside the adapted ones"),
    ] = None,
    file: RunFiles = [],  # noqa: B006
    set_: RunEntries = [],  # noqa: B006
    device: Device = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="write numbers in place of the names of cases")] = False,
) -> None:
    """Write one page that says which masks of a run can be used."""
    with report_errors():
        from monai_tta.pipeline.anonymous_records import anonymous_records

        QualityOptions(accept=accept)
        asked = PagePictures(pictures, bundle, file, set_, device)
        if out is not None:
            _check_out(out)
        masks = folder_of_records(masks)
        document = read_records(masks)
        if anonymous:  # a preview has the name of its case as its title
            document["cases"] = [{**case, "preview": None} for case in document["cases"]]
        drawn = draw_pictures(document, masks, asked) if pictures else PicturesDrawn()
        write_report(anonymous_records(document) if anonymous else document, out or masks / PAGE, accept, drawn.pictures)
        if drawn.missing:
            raise typer.Exit(3)


def _check_out(out: Path) -> None:
    """Refuse a page that could replace an image or a mask, before any work."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{out} does not end in .html, and the page is one")
    check_new_file(out)
