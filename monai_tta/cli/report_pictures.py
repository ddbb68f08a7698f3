"""The pictures on the page of `monai-tta report`: a case with its mask, and with the unadapted answer if asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.answer_again import RecordedRun, run_again
from monai_tta.cli.case_options import as_images
from monai_tta.cli.console import say
from monai_tta.cli.progress import show_progress
from monai_tta.cli.recorded_command import LeftOut

if TYPE_CHECKING:
    from monai_tta.pipeline.find_images import FoundImages
    from monai_tta.pipeline.recorded_answer import RecordedAnswer
    from monai_tta.reporting.slice_pictures import CasePictures

_NOT_HAD = "The unadapted answer has no column: it could not be computed again, or not for the image of the run."


@dataclass(frozen=True)
class PagePictures:
    """What the command line of `monai-tta report` says of pictures.

    Args:
        images: files, folders and datalists, as they were given to the run; empty for no pictures.
        bundle: of the run, whose unadapted answers are drawn, too; None to leave them out.
        files: as for `LeftOut`.
        entries: as for `LeftOut`.
        device: where the unadapted answers are computed.

    Raises:
        ValueError: for a part without the others that it needs.
    """

    images: Sequence[Path]
    bundle: Path | None = None
    files: Sequence[Path] = ()
    entries: Sequence[str] = ()
    device: str | None = None

    def __post_init__(self) -> None:
        if self.bundle is not None and not self.images:
            raise ValueError("--bundle is for the unadapted outlines of pictures; give --pictures, too")
        if self.bundle is None and (self.files or self.entries or self.device is not None):
            raise ValueError("--file, --set and --device are for the unadapted outlines; give --bundle, too")


@dataclass
class PicturesDrawn:
    """What came of the pictures.

    Args:
        pictures: by the number of a case.
        missing: how many cases have none, or lack the unadapted answer that was asked for.
    """

    pictures: dict[int, CasePictures] = field(default_factory=dict)
    missing: int = 0


def draw_pictures(document: Mapping[str, Any], masks: Path, asked: PagePictures) -> PicturesDrawn:
    """Slices of the images with the outlines of their masks. What cannot be drawn is said.

    Args:
        document: what records.json holds.
        masks: the folder of the masks.
        asked: what was asked for.

    Raises:
        ValueError: for records without names, images of which none is in them, and another bundle than the run's.
    """
    if document["run"]["anonymous"]:
        raise ValueError("anonymous records name no masks, so no image can be found for one; leave out --pictures")
    if asked.bundle is None:
        from monai_tta.pipeline.image_names import named_images

        with as_images(asked.images, out=masks) as given:
            return _drawn(document, masks, _by_name(named_images(given, masks)), {})
    with tempfile.TemporaryDirectory(prefix="monai_tta-") as folder:
        left_out = LeftOut(asked.bundle, asked.images, Path(folder), asked.files, asked.entries, asked.device)
        with run_again(document, left_out, masks) as run:
            return _drawn(document, masks, _by_name(run.found), _unadapted(run), are_as_in_the_run=True)


def _by_name(found: FoundImages) -> dict[str, Path]:
    return dict(zip(found.names, found.images, strict=True))


def _unadapted(run: RecordedRun) -> dict[int, RecordedAnswer | str]:
    """The unadapted answers to adapted cases, or what the page says in their place, by the number of a case."""
    from monai_tta.pipeline.recorded_answer import RecordedAnswer

    place = _by_name(run.found)
    adapted = [case for case in run.document["cases"] if case["status"] == "adapted" and case["name"] in place]
    if not adapted:
        return {}
    answers = run.answer_unadapted({case["name"]: place[case["name"]] for case in adapted}, adapted)
    found: dict[int, RecordedAnswer | str] = {}
    for case, answer in zip(adapted, answers, strict=True):
        if isinstance(answer, ValueError):
            say(f"{case['name']}: {answer}", "red")
            found[case["number"]] = _NOT_HAD
        else:
            found[case["number"]] = RecordedAnswer.of_entry(answer, run.request.out)
    return found


def _drawn(
    document: Mapping[str, Any],
    masks: Path,
    place: Mapping[str, Path],
    unadapted: Mapping[int, RecordedAnswer | str],
    are_as_in_the_run: bool = False,
) -> PicturesDrawn:
    """The pictures, from the place of each image by its name.

    Where images are grouped as in the run, one with other contents than its record says is not drawn: the mask is not its own.
    """
    from monai_tta.pipeline.content_hashes import content_id
    from monai_tta.pipeline.describe_error import describe_error
    from monai_tta.pipeline.mask_pictures import pictures_of_entry
    from monai_tta.pipeline.picture_planes import intensity_ends

    drawn = PicturesDrawn(missing=sum(isinstance(answer, str) for answer in unadapted.values()))
    ends = intensity_ends(document)
    todo = [case for case in document["cases"] if case["masks"]]
    with show_progress("drawing", len(todo), "cases") as progress:
        for case in todo:
            name = case["name"]
            before = unadapted.get(case["number"])
            try:
                if name not in place:
                    raise ValueError("no image of this name was given")
                if are_as_in_the_run and case.get("image_hash") not in (None, content_id(place[name])):
                    raise ValueError("the image of this name is not that of the run")
                drawn.pictures[case["number"]] = pictures_of_entry(place[name], case, masks, ends, before)
            except Exception as error:  # whatever is wrong with one picture, the page is there
                drawn.missing += not isinstance(before, str)
                say(f"{name}: no picture: {describe_error(error)}", "red")
            progress.advance(name)
    if todo and not drawn.pictures:
        raise ValueError("not one case could be drawn: give --pictures the images as they were given to `monai-tta run`")
    return drawn
