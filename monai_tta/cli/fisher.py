"""`monai-tta fisher`: measure at the source how much a network's answer depends on each number that may move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from monai_tta.cli.case_options import CaseOptions, Group, Images, Sequences, searched_images
from monai_tta.cli.console import print_json, print_line, report_errors, say
from monai_tta.cli.options import AsJson, Bundle, Checkpoint, Choices, ConfigEntries, Device, check_new_file, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.core.fisher_file import FisherInformation
    from monai_tta.core.method import Descent

HELP = """Measure the Fisher information of what may move, for `--method eata`.

IMAGES are of the network's source and need no labels. Of each image one
window is used, the one that a method would adapt on. The paper takes
2000 photographs.

The file holds a number for each number that may move, no image and no
name, and fits this checkpoint only. It is made for the tensors that EATA
moves: give the same --choose select=... as there.
"""
HELP_END = help_end(
    "monai-tta fisher BUNDLE SOURCE_SCANS",
    "monai-tta run BUNDLE SCANS --out MASKS --method eata",
    codes=(0, 2, 3),
)


def fisher(
    bundle: Bundle,
    images: Images,
    out: Annotated[Path | None, typer.Option(help="the .npz file to write; models/fisher.npz in the bundle if not given")] = None,
    checkpoint: Checkpoint = None,
    choose: Choices = [],  # noqa: B006
    set_: ConfigEntries = [],  # noqa: B006
    group: Group = "",
    sequences: Sequences = "",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure the Fisher information of what may move, on unlabelled images of the source."""
    with report_errors():
        root = find_bundle(bundle)

        from monai_tta.core.fisher_file import fisher_file
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
        from monai_tta.pipeline.method_by_name import named_method
        from monai_tta.preparation.fisher import fisher_of_bundle

        select = cast("Descent", named_method("eata", choose)).select
        keys = parse_entries(set_)
        weights = checkpoint_name(root, checkpoint, ConfigChanges.of((), keys))
        file = out or fisher_file(root / "models" / weights)
        check_new_file(file)
        with searched_images(images, CaseOptions(group, sequences), out=file.parent) as found:
            measuring = fisher_of_bundle(root, found.images, weights, keys, device, found.names, select)
            information, left_out = _follow(measuring, len(found.images))
        file.parent.mkdir(parents=True, exist_ok=True)
        information.save(file)
        size = file.stat().st_size
    about = {**information.about, "tensors": len(information.values), "bytes": size}
    if as_json:
        print_json({"found": about, "written": str(file), "left out": left_out})
    else:
        print_line(f"of {about['tensors']} tensors, by {about['windows']} windows, {size / 1000:.0f} kB")
        print_line(f"written: {file}; `monai-tta` finds it in its bundle; elsewhere give --method eata --choose file=FILE")
    if left_out:
        raise typer.Exit(3)


def _follow(measuring: Iterator[int | str | FisherInformation], n_images: int) -> tuple[FisherInformation, list[str]]:
    """Show how measuring goes; what was found, and a line for each image that was left out."""
    left_out = []
    with show_progress("measuring", n_images, "images") as progress:
        for done in measuring:
            if isinstance(done, str):
                left_out.append(done)
                say(f"left out: {done}", "red")
            elif isinstance(done, int):
                progress.advance("image measured")
            else:
                information = done
    return information, left_out
