"""`monai-tta replay`: a case of a run answered anew, as its record says, and compared with the mask that is there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.answer_again import RecordedCase, case_again
from monai_tta.cli.case_options import Images
from monai_tta.cli.console import print_json, print_line, report_errors
from monai_tta.cli.diff import print_facts, words_on_dice, words_on_volumes
from monai_tta.cli.options import EXIT_CODES, AsJson, Bundle, Device, RunEntries, RunFiles, help_end
from monai_tta.cli.recorded_case import recorded_case
from monai_tta.cli.recorded_command import LeftOut
from monai_tta.cli.recorded_run import read_records

if TYPE_CHECKING:
    from monai_tta.evaluation.mask_differences import MaskDifferences
    from monai_tta.evaluation.replay import Replay

HELP = """Answer one case of a run anew, as its record says, and compare the masks.

The record says everything but where things are: give BUNDLE and IMAGES as
they were given to `monai-tta run`, or the case's own image alone. Hashes tell
whether bundle, weights and image are the ones on record. Nothing in OUT is
changed.

It prints "the same" where the new mask is that in OUT, bit for bit, and else
what differs. Another machine, device or version is said, too; by itself it
is no difference, as long as the mask is the same.

A case of a continual run (--reset never) depends on the cases before it and
cannot be replayed.
"""
HELP_END = help_end(
    "monai-tta replay MASKS p1_ct hippocampus_mri SCANS",
    "monai-tta replay MASKS p1_ct BUNDLE p1/ct.nii.gz --file reference.json",
    codes=(0, 2, 3, 130),
    meanings=EXIT_CODES | {0: "the mask is the same", 3: "something differs"},
)


def replay(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="the --out folder of a `monai-tta run`")],
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="the name of a case or of its mask; its number where records are anonymous")
    ],
    bundle: Bundle,
    images: Images,
    file: RunFiles = [],  # noqa: B006
    set_: RunEntries = [],  # noqa: B006
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Answer one case of a run anew, as its record says, and compare the masks."""
    with report_errors():
        document = read_records(out)
        recorded = recorded_case(document, case, out)
        _check_replayable(document, recorded, out)
    with tempfile.TemporaryDirectory(prefix="monai_tta-") as folder, report_errors():
        left_out = LeftOut(bundle, images, Path(folder), file, set_, device)
        with case_again(document, recorded, left_out, out) as again:
            replayed = _replayed(again, out)
            _print(replayed, as_json)
    if not replayed.same:
        raise typer.Exit(3)


def _check_replayable(document: Mapping[str, Any], recorded: Mapping[str, Any], out: Path) -> None:
    """Refuse what cannot be replayed, before torch is imported."""
    if recorded["status"] == "failed":
        raise ValueError(f"this case failed, so there is no mask to compare with: {recorded['error']}")
    if recorded["reset"] == "never":
        raise ValueError(
            "this case was answered in a continual run (--reset never): its mask depends on what was learnt from the cases "
            "before it, so it cannot be replayed by itself"
        )
    for mask in () if document["run"]["anonymous"] else recorded["masks"]:
        if not (out / mask).is_file():
            raise ValueError(f"{out} has no {mask} any more, so there is nothing to compare with")


def _replayed(case: RecordedCase, out: Path) -> Replay:
    """Answer the case and compare."""
    from monai_tta.evaluation.replay import Replay

    return Replay.of(case.name, (out, case.folder), (case.run.document, case.answer()), case.entry)


def _print(replayed: Replay, as_json: bool) -> None:
    """Say what came of it: the verdict first."""
    if as_json:
        print_json(replayed.to_dict())
        return
    masks = replayed.case.masks
    if replayed.same and masks is not None:
        print_line(f"the same: all {masks.n_voxels} voxels of {replayed.files}")
    elif masks is None:
        print_line(f"differs: {'this time the case failed' if replayed.failed else replayed.case.why}")
    elif masks.same:
        print_line("differs: the mask is the same, but it was not made as the record says")
    else:
        _print_difference(replayed, masks)
    print_facts(replayed.differs, ("on record", "now"), "differs")
    print_facts(replayed.circumstances, ("on record", "now"), "no difference by itself")
    for note in replayed.unchecked:
        print_line(note)


def _print_difference(replayed: Replay, masks: MaskDifferences) -> None:
    """Say how the new mask differs from that on disk."""
    print_line(f"differs: {masks.n_different} of {masks.n_voxels} voxels of {replayed.files}")
    for note in masks.notes:
        print_line(note)
    if masks.n_different:
        print_line(f"Dice: {words_on_dice(masks)}")
        print_line(f"volumes on disk / anew: {words_on_volumes(masks)}{replayed.largest_change}")
    if replayed.is_changed_on_disk:
        print_line("the new mask holds as much of each label as the record says: that on disk was probably changed after the run")
