"""`monai-tta demo`: a first picture, of an image that no network here was trained on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import AsJson, check_new_folder, help_end
from monai_tta.cli.progress import show_progress

if TYPE_CHECKING:
    from monai_tta.cli.demo import DemoAnswer

HELP_END = help_end("monai-tta demo --out demo")
COLUMNS = ("image", "method", "agreement", "islands (voxels)", "answer")
EXPLANATION = (
    "right / left hippocampus",
    "agreement: Dice with the unadapted answer for the template as it is. It is no ground truth.",
    "islands: pieces of a part (anterior, posterior) that do not touch its largest piece.",
)


def demo(
    out: Annotated[Path, typer.Option(help="the folder for the picture, the masks and the records")] = Path("demo"),
    seed: Annotated[int | None, typer.Option(help="of the simulated scanner; see docs/status.md for ten of them", min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """Find both hippocampi in the ICBM-152 template, as it is and through a simulated poor scanner: unadapted, GraTa, Careful."""
    with report_errors():
        check_new_folder(out)

        from monai_tta.cli.demo import SEED, in_words, make_demo, poor_scanner
        from monai_tta.core.record import reasons_on_record_alone

        seed = SEED if seed is None else seed
        with show_progress("segmenting", 12, "boxes") as progress, reasons_on_record_alone():
            answers = make_demo(out, progress.advance, seed)
    scanner = in_words(poor_scanner(seed))
    if as_json:
        print_json({"scanner": scanner, "answers": [asdict(answer) for answer in answers], "out": str(out.resolve())})
        return
    pairs = zip(answers[0::2], answers[1::2], strict=True)
    print_table(COLUMNS, [_row(right, left) for right, left in pairs])
    for line in (*EXPLANATION, f"poor scanner: {scanner}", f"picture: {out.resolve() / 'demo.png'}"):
        print_line(line)


def _row(right: DemoAnswer, left: DemoAnswer) -> tuple[str, ...]:
    """One method on one image, both sides."""
    islands = (f"{side.islands} ({side.island_voxels})" for side in (right, left))
    kind = right.kind if right.kind == left.kind else f"{right.kind} / {left.kind}"
    return right.image, right.method, f"{right.agreement:.3f} / {left.agreement:.3f}", " / ".join(islands), kind
