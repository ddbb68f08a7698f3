"""The picture of `monai-tta show`: a case with the outline of its mask, and of the unadapted answer where that is to be had."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.answer_again import RecordedCase, case_again
from monai_tta.cli.console import print_line, say
from monai_tta.cli.options import check_new_file
from monai_tta.cli.recorded_command import LeftOut
from monai_tta.pipeline.image_names import name_of

if TYPE_CHECKING:
    from monai_tta.pipeline.recorded_answer import RecordedAnswer

_CHANNEL = re.compile(r"_\d{4}$")  # the end of the name of an nnU-Net's image


@dataclass(frozen=True)
class PictureRequest:
    """What the command line of `monai-tta show` says of the picture.

    Args:
        image: of the case; None for no picture. With a bundle it may be what the run was given.
        out: the file to write; None for no picture.
        bundle: of the run, whose unadapted answer is drawn, too; None to leave that out.
        files: as for `LeftOut`.
        entries: as for `LeftOut`.
        device: where the unadapted answer is computed.

    Raises:
        ValueError: for a part without the others that it needs, and for a file that is no PNG.
        OSError: for a place where no file can be written.
    """

    image: Path | None = None
    out: Path | None = None
    bundle: Path | None = None
    files: Sequence[Path] = ()
    entries: Sequence[str] = ()
    device: str | None = None

    def __post_init__(self) -> None:
        if (self.image is None) != (self.out is None):
            raise ValueError("a picture needs both --image and --out")
        if self.bundle is not None and self.image is None:
            raise ValueError("--bundle is for the unadapted outline of a picture; give --image and --out, too")
        if self.bundle is None and (self.files or self.entries or self.device is not None):
            raise ValueError("--file, --set and --device are for the unadapted outline; give --bundle, too")
        if self.out is not None:
            if self.out.suffix.lower() != ".png":
                raise ValueError(f"{self.out} does not end in .png, and the picture is one")
            check_new_file(self.out)


def draw_case(document: Mapping[str, Any], entry: Mapping[str, Any], masks: Path, request: PictureRequest) -> None:
    """Draw a case with its mask, and say where the picture is.

    Args:
        document: what the ``records.json`` of the run holds.
        entry: of the case in it.
        masks: the folder of the run's masks.
        request: what was asked for; nothing is drawn where no picture was.

    Raises:
        ValueError: where its masks are not known, where the unadapted answer was asked for and is not to be had, and where the
            picture would replace the image or one of its masks.
    """
    if request.image is None or request.out is None:
        return
    files = _masks_of(document, entry, masks)
    _check_out(request.out, [*files, request.image])
    if request.bundle is None:
        _say_other_name(request.image, entry)
        _write(request.out, request.image, files, document, entry, None)
        if entry["status"] == "adapted":
            _say_missing(entry, masks)
        return
    with tempfile.TemporaryDirectory(prefix="monai_tta-") as folder:
        left_out = LeftOut(request.bundle, [request.image], Path(folder), request.files, request.entries, request.device)
        with case_again(document, entry, left_out, masks) as again:
            _check_out(request.out, _files_of(again.image))
            unadapted = _unadapted(again) if entry["status"] == "adapted" else None
            _write(request.out, again.image, files, document, entry, unadapted)


def _masks_of(document: Mapping[str, Any], entry: Mapping[str, Any], masks: Path) -> list[Path]:
    """The masks of a case, which are there."""
    if document["run"]["anonymous"]:
        raise ValueError("anonymous records name no masks, so none can be drawn; leave out --image")
    if not entry["masks"]:
        raise ValueError(f"{entry['name']} failed and has no mask to draw")
    files = [masks / mask for mask in entry["masks"]]
    if lost := [file for file in files if not file.is_file()]:
        raise ValueError(f"{lost[0]} is on record and not there")
    return files


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    if out.exists() and any(out.samefile(file) for file in inputs if file.exists()):
        raise ValueError(f"{out} is the image or its mask; give another --out")


def _files_of(image: Path) -> Sequence[Path]:
    from monai_tta.pipeline.case_file import files_of

    return files_of(image)


def _unadapted(again: RecordedCase) -> RecordedAnswer:
    """The unadapted answer to a case, computed again."""
    from monai_tta.pipeline.recorded_answer import RecordedAnswer

    return RecordedAnswer.of_entry(again.answer_unadapted(), again.folder)


def _write(
    out: Path,
    image: Path,
    masks: Sequence[Path],
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    unadapted: RecordedAnswer | None,
) -> None:
    from monai_tta.pipeline.output_folder import write_atomically
    from monai_tta.pipeline.picture_planes import intensity_ends
    from monai_tta.pipeline.preview import picture_of_entry

    write_atomically(out, picture_of_entry(image, masks, entry, unadapted, intensity_ends(document)))
    print_line(f"written: {out}")


def _say_other_name(image: Path, entry: Mapping[str, Any]) -> None:
    """Warn where an image is not called like the case. The name of an nnU-Net's image has the number of its channel behind it."""
    name = name_of(image)
    if name not in entry["name"] and not entry["name"].endswith(_CHANNEL.sub("", name)):
        say(f"the image is called {image.name}, and the case {entry['name']}: is it the case's own?", "yellow")


def _say_missing(entry: Mapping[str, Any], masks: Path) -> None:
    """Say how the unadapted outline is to be had."""
    preview = entry.get("preview")
    drawn = f"; the run has drawn it, in {masks / preview}" if preview and (masks / preview).is_file() else ""
    say(f"the picture has no unadapted outline, because a run does not keep that answer: --bundle computes it again{drawn}")
