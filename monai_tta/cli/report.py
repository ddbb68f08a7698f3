"""`monai-tta report`: one page on which of a run's masks can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.case_options import as_images
from monai_tta.cli.console import print_line, report_errors
from monai_tta.cli.options import help_end
from monai_tta.cli.progress import show_progress
from monai_tta.cli.quality_options import Accept, QualityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monai_tta.reporting.case_pictures import CasePictures

HELP = """Write one page that says which masks of a run can be used.

It reads records.json in the folder of masks, and nothing else: no images,
no masks. The page needs no other file and no net. It names cases as the
records do; after `run --anonymous` it names none, and with --anonymous it
has numbers in place of names. With --pictures it also
shows slices of the images with their masks, with the maps of uncertainty
and the previews where the run made them, and then holds pixels.

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
    pictures: Annotated[
        list[Path],
        typer.Option(help="the images, as they were given to `run`: slices of them go into the page; may be given several times"),
    ] = [],  # noqa: B006
    anonymous: Annotated[bool, typer.Option("--anonymous", help="write numbers in place of the names of cases")] = False,
) -> None:
    """Write one page that says which masks of a run can be used."""
    with report_errors():
        from monai_tta.pipeline.anonymous_records import anonymous_records

        QualityOptions(accept=accept)
        document = read_records(masks)
        if anonymous:  # a preview has the name of its case as its title
            document["cases"] = [{**case, "preview": None} for case in document["cases"]]
        drawn = draw_pictures(document, masks, pictures) if pictures else {}
        write_report(anonymous_records(document) if anonymous else document, file or masks / PAGE, accept, drawn)


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


def draw_pictures(document: Mapping[str, Any], masks: Path, images: Sequence[Path]) -> dict[int, CasePictures]:
    """Slices of the images with the outlines of their masks, by the number of a case. What cannot be drawn is said.

    Args:
        document: what records.json holds.
        masks: the folder of the masks.
        images: files, folders and datalists, as they were given to the run.

    Raises:
        ValueError: for records without names, or images of which none is in them.
    """
    from monai_tta.pipeline.image_names import named_images

    if document["run"]["anonymous"]:
        raise ValueError("anonymous records name no masks, so no image can be found for one; leave out --pictures")
    with as_images(images, out=masks) as given:
        found = named_images(given, masks)
        return _drawn(document, masks, dict(zip(found.names, found.images, strict=True)))


def _drawn(document: Mapping[str, Any], masks: Path, place: Mapping[str, Path]) -> dict[int, CasePictures]:
    """The same, from the place of each image by its name."""
    from monai_tta.pipeline.describe_error import describe_error
    from monai_tta.pipeline.mask_pictures import pictures_of_entry
    from monai_tta.pipeline.picture_planes import intensity_ends

    drawn = {}
    ends = intensity_ends(document)
    todo = [case for case in document["cases"] if case["masks"]]
    with show_progress("drawing", len(todo), "cases") as progress:
        for case in todo:
            name = case["name"]
            try:
                if name not in place:
                    raise ValueError("no image of this name was given")
                drawn[case["number"]] = pictures_of_entry(place[name], case, masks, ends)
                progress.advance(f"{name} drawn")
            except Exception as error:  # whatever is wrong with one picture, the page is there
                progress.advance(f"{name}: no picture: {describe_error(error)}")
    if todo and not drawn:
        raise ValueError("not one case could be drawn: give --pictures the images as they were given to `monai-tta run`")
    return drawn


def folder_of_records(given: Path) -> Path:
    """The folder of masks that is meant by itself or by the records.json in it.

    Raises:
        ValueError: for another file.
    """
    from monai_tta.pipeline.records import JSON_NAME

    if not given.is_file():
        return given
    if given.name != JSON_NAME:
        raise ValueError(f"{given} is not {JSON_NAME}: give that file of a `monai-tta run`, or its --out folder")
    return given.parent


def read_records(masks: Path) -> dict[str, Any]:
    """What the records.json of a run holds.

    Args:
        masks: the folder of its masks.

    Raises:
        ValueError: where there is none, or one that `monai-tta run` did not write.
    """
    from monai_tta.pipeline.image_names import in_this_locale
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
    for case in document["cases"]:
        case |= {key: in_this_locale(case[key]) for key in ("name", "uncertainty_map", "preview") if case.get(key)}
        case |= {key: [in_this_locale(mask) for mask in case[key]] for key in ("masks",) if key in case}
    return dict(document)
