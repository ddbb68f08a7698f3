"""The options of `monai-tta run` that no other command has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.guard_option import GUARDS
from monai_tta.cli.options import complete_method
from monai_tta.pipeline.match_names import letters
from monai_tta.pipeline.shards import WHOLE, Shard, parse_shard, shard_of_torchrun


def complete_guard(incomplete: str) -> list[str]:
    """Names of guards that begin so, for the shell."""
    return [name for name in GUARDS if letters(name).startswith(letters(incomplete))]


Out = Annotated[Path, typer.Option(help="the folder for masks, records.json and records.csv")]
Method = Annotated[
    str | None, typer.Option(help="see `monai-tta methods`; the safe one if not given", autocompletion=complete_method)
]
Head = Annotated[str, typer.Option(help="what the logits stand for: softmax, sigmoid or auto")]
Learn = Annotated[str, typer.Option(help="adapt to the whole volume or to each window: volume or window")]
Reset = Annotated[str, typer.Option(help="when to forget what was learnt: volume, window or never")]
Guards = Annotated[
    list[str],
    typer.Option(help="NAME[:VALUE], e.g. volume-change:0.3; may be given several times", autocompletion=complete_guard),
]
Reference = Annotated[Path | None, typer.Option(help="what `monai-tta reference` wrote, for guards that need it")]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="leave the names of images and masks out of the records")]
MainOutput = Annotated[str | None, typer.Option(help="of several outputs the one to make masks of: its name or number")]
Restart = Annotated[
    bool, typer.Option("--restart", help="forget an unfinished run in the same --out and start from the first image")
]
Preview = Annotated[
    bool,
    typer.Option("--preview", help="write a picture of each case beside its mask; it shows the patient's image"),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="of the masks: nrrd, mha or dicom-seg; what the bundle writes if not given, mostly NIfTI, PNG for photographs",
    ),
]
Report = Annotated[bool, typer.Option("--report", help="write report.html at the end, see `monai-tta report`")]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="segment one of N shares of the images; each by a process of its own, anywhere"),
]
Workers = Annotated[int, typer.Option(help="processes on this machine, which draw images from one queue", min=1)]


def chosen_shard(given: str | None) -> Shard:
    """The share of the images that was asked for by --shard, or by torchrun in the environment.

    Raises:
        ValueError: for a share that there is not, or for both at once.
    """
    of_torchrun = shard_of_torchrun(os.environ)
    if given is None:
        return of_torchrun or WHOLE
    if of_torchrun is not None:
        raise ValueError(f"--shard {given}, and torchrun (RANK and WORLD_SIZE) says {of_torchrun}: give one or the other")
    return parse_shard(given)
