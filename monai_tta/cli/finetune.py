"""`monai-tta finetune`: a new checkpoint from a few scribbled cases of another scanner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import AsJson, Bundle, Checkpoint, Device, Seed, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.preparation.finetune_scribbles import Finetuned, HeldOut

HELP = """Fine-tune a bundle's network on a few scribbled cases of another scanner.

It writes a new checkpoint and never replaces one. Scribbles are images in
which a few voxels of each structure are marked with its number (1, 2, ...
as in the network's masks), some of the background with the next number,
and everything else is 0. --values says otherwise.

Look at --check: it says for each case whether fine-tuning on the others
helped.
"""
HELP_END = help_end(
    "monai-tta finetune BUNDLE --datalist cases.json --out BUNDLE/models/new.pt --check",
    "monai-tta run BUNDLE IMAGES --checkpoint new.pt --out MASKS",
)

Choices = Annotated[
    list[str],
    typer.Option(
        help="NAME=VALUE of the fine-tuning, e.g. steps=200, optimizer.lr=1e-4, select=Everything, consistency_weight=0; "
        "may be given several times"
    ),
]


def finetune(
    bundle: Bundle,
    datalist: Annotated[Path, typer.Option(help='a JSON list of {"image": ..., "scribble": ...}; paths are relative to it')],
    out: Annotated[Path, typer.Option(help="the new checkpoint; a file that exists is never replaced")],
    checkpoint: Checkpoint = None,
    values: Annotated[
        str, typer.Option(help="the scribbles' value of each class, background first, e.g. 0,1,2; N+1,1,...,N if not given")
    ] = "",
    unmarked: Annotated[int, typer.Option(help="the scribbles' value of voxels that nobody marked")] = 0,
    channels: Annotated[
        str, typer.Option(help="the values in each channel of structures that overlap, e.g. 1+2,2 for disc with cup and cup")
    ] = "",
    half_distance: Annotated[float, typer.Option(help="mm from a scribble at which it counts half")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="leave out each case in turn first, and compare on it")] = False,
    choose: Choices = [],  # noqa: B006
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a bundle's network on a few scribbled cases of another scanner."""
    with report_errors():
        root = find_bundle(bundle)
        if not datalist.is_file():
            raise FileNotFoundError(f"{datalist} is no file; --datalist is a JSON list of images and scribbles")
        classes = _numbers(values, "--values")
        overlapping = tuple(_numbers(part.replace("+", ","), "--channels") for part in channels.split(",") if channels)

        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.choices import build_value
        from monai_tta.preparation.finetune_bundle import ScribbleValues, finetune_bundle
        from monai_tta.preparation.finetune_scribbles import FinetuneSettings

        settings = build_value(FinetuneSettings, "finetune", [f"seed={seed}", *choose])
        scribbles = ScribbleValues(
            values=classes or None, unmarked=unmarked, channels=overlapping or None, half_distance=half_distance
        )
        weights = checkpoint_name(root, checkpoint)
        with show_progress("fine-tuning", settings.steps, "steps") as progress:
            made, held_out = finetune_bundle(
                root,
                datalist,
                out,
                weights,
                scribbles,
                settings,
                check=check,
                device=device,
                progress=lambda done, total: progress.move_to(done, total, "steps") if done % 20 == 0 or done == total else None,
            )
    _print_result(made, held_out, out, as_json)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """The whole numbers of a text like "0,1,2"; none for an empty one."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"{option} takes whole numbers between commas, found {text!r}") from None


def _print_result(made: Finetuned, held_out: Sequence[HeldOut], out: Path, as_json: bool) -> None:
    found = {"first loss": made.losses[0], "last loss": made.losses[-1], "moving": made.n_moving, "moved": made.weight_distance}
    if as_json:
        print_json({"found": found, "held out": [vars(case) for case in held_out], "written": str(out)})
        return
    _print_held_out(held_out)
    print_line(
        f"loss {made.losses[0]:.3f} -> {made.losses[-1]:.3f} nats; {made.n_moving} numbers moved {made.weight_distance:.3g}"
    )
    print_line(f"written: {out}; in the bundle's models folder, `monai-tta run` takes it by --checkpoint {out.name}")


def _print_held_out(held_out: Sequence[HeldOut]) -> None:
    if not held_out:
        return
    columns = ["case left out", "loss before", "after", "agrees with its scribbles before", "after"]
    rows = [
        (str(k), *(f"{x:.3f}" for x in (case.loss_before, case.loss_after, case.agreement_before, case.agreement_after)))
        for k, case in enumerate(held_out)
    ]
    print_table(columns, rows)
