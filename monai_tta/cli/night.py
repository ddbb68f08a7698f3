"""`monai-tta night`: fine-tune a bundle's network on the images that `--method dyna` has kept by day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.console import print_line, report_errors
from monai_tta.cli.options import Bundle, Checkpoint, Choices, Device, help_end
from monai_tta.pipeline.shipped_bundles import find_bundle

HELP_END = help_end("monai-tta night BUNDLE --diary DIARY --out models/model_night.pt", codes=(0, 2, 3))


def night(
    bundle: Bundle,
    diary: Annotated[Path, typer.Option(help="the folder that the day was given by --choose diary=FOLDER")],
    out: Annotated[Path, typer.Option(help="the new checkpoint; a relative path is one in the bundle's folder")],
    checkpoint: Checkpoint = None,
    choose: Choices = [],  # noqa: B006
    device: Device = None,
    keep_diary: Annotated[bool, typer.Option("--keep-diary", help="do not delete the day's images afterwards")] = False,
) -> None:
    """Learn from the images of a day, without labels, and write a new checkpoint beside the old one.

    One of five images is held back. Where a guard refuses the new network's
    answers to them, nothing is written. The day's images are deleted
    afterwards, refused or not. They stay where the night could not be
    finished.
    """
    with report_errors():
        root = find_bundle(bundle)
        target = out if out.is_absolute() else root / out
        if not diary.is_dir():
            raise NotADirectoryError(f"{diary} is no folder; give the diary of a day with --method dyna --choose diary=FOLDER")
        if target.exists() or not target.parent.is_dir():
            why = "is there already" if target.exists() else "is in a folder that does not exist"
            raise FileExistsError(f"{target} {why}; choose another file")

        from monai_tta.core.diary import Diary
        from monai_tta.pipeline.bundle import load_bundle
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.method_by_name import named_method
        from monai_tta.pipeline.night import consolidate_network, head_of_bundle

        method = named_method("dyna", [*choose, f"diary={diary}"])
        weights = checkpoint_name(root, checkpoint)
        source = load_bundle(root, weights, device)
        day = Diary(diary)
        print_line(f"learning from {len(day.to_learn_from())} images; {len(day.held_back())} are held back")
        held_back = [day.read(file) for file in day.held_back()]
        report = consolidate_network(source.network, method, head_of_bundle(source), held_back, target)
        if not keep_diary:
            day.burn()
    if report.reason is not None:
        print_line(f"refused, and nothing is written: {report.reason}")
        raise typer.Exit(3)
    moved = f"{report.changed} tensors moved by {100 * report.distance:.2g} % of their length"
    print_line(f"{moved}; {report.n_checked} held-back images passed")
    print_line(f"written: {target}; use it by `monai-tta run {bundle} IMAGES --checkpoint {target.name} ...`")
