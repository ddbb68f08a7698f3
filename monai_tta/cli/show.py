"""`monai-tta show`: what is on record of one case, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import print_line, print_table, report_errors
from monai_tta.cli.options import Device, RunEntries, RunFiles, help_end
from monai_tta.cli.recorded_case import recorded_case
from monai_tta.cli.recorded_run import folder_of_records, read_records
from monai_tta.cli.show_picture import PictureRequest, draw_case

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP = """Say what a run did for one case, and why.

It reads records.json in the folder of masks, and nothing else. CASE is the
name of a mask or of the case; in anonymous records its number.

--image IMAGE --out FILE.png draws the image with the outline of its mask, as
`monai-tta run --preview` does. The picture shows the patient's image.

A run does not keep the unadapted answer of an adapted case. --bundle BUNDLE
computes it again, as `monai-tta replay` does, and draws its outline, too.
Give the bundle of the run; hashes tell whether it is. IMAGE may then be what
the run was given. Without --bundle the picture says that the outline is
missing.
"""
HELP_END = help_end(
    "monai-tta show MASKS a_seg.nii.gz",
    "monai-tta show MASKS a --image SCANS/a.nii.gz --out a.png",
    "monai-tta show MASKS a --image SCANS --out a.png --bundle hippocampus_mri",
)


def show(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="the --out folder of `monai-tta run`, or its records.json")],
    case: Annotated[str, typer.Argument(metavar="CASE", help="the name of a mask or of its case")],
    image: Annotated[
        Path | None, typer.Option(help="the image of the case, to draw it with its mask; with --bundle also what `run` was given")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the PNG file of the picture")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="the BUNDLE of the run: its unadapted answer is computed again, and drawn, too"),
    ] = None,
    file: RunFiles = [],  # noqa: B006
    set_: RunEntries = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Say what a run did for one case, and why."""
    with report_errors():
        picture = PictureRequest(image, out, bundle, file, set_, device)
        masks = folder_of_records(masks)
        document = read_records(masks)
        entry = recorded_case(document, case, masks)
        draw_case(document, entry, masks, picture)
        _print_entry(entry)


def _print_entry(entry: Mapping[str, Any]) -> None:
    from monai_tta.pipeline.quality_words import NOT_KNOWN, WITHIN
    from monai_tta.reporting.case_rows import fact_rows, input_words, label_rows, quality_rows, step_rows

    print_line(f"{entry.get('name', 'case ' + str(entry['number']))}: {entry['in_words']}")
    restarted = entry.get("restarted") and f"the stream was restarted: {entry['restarted']}"
    without_map = entry.get("uncertainty_note") and f"there is no map of the uncertainty: {entry['uncertainty_note']}"
    for note in (input_words(entry), *entry["notes"], entry["labels_note"], restarted, without_map):
        if note:
            print_line(note)
    if quality := quality_rows(entry):
        rows = [(name, dice, surface, before or "the same answer") for name, dice, surface, before, _ in quality]
        print_table(("structure", "expected Dice", WITHIN, "Dice of the unadapted answer"), rows)
    elif entry["status"] != "failed":
        print_line(f"{NOT_KNOWN}: {entry.get('quality_note') or 'the run had no quality predictor'}")
    if labels := label_rows(entry):
        has_source = any(source for _, _, source in labels)
        columns = ("label", "in the mask", *(("90 % of the source's cases",) if has_source else ()))
        print_table(columns, [row[: len(columns)] for row in labels])
    columns_of_steps, steps = step_rows(entry)
    if steps:
        print_table(columns_of_steps, steps)
    print_table(("what else is on record", ""), fact_rows(entry))
