"""`monai-tta run`: masks of images, with a bundle's network adapted to each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from monai_tta.cli.console import BUDGET, PRECISION, budget_of, console, report_errors, say
from monai_tta.cli.guard_option import parse_guards
from monai_tta.pipeline import bundle as bundles
from monai_tta.pipeline import segment as cohort
from monai_tta.pipeline.bundle_predictor import with_bundle_predictor
from monai_tta.pipeline.find_images import find_images, outside
from monai_tta.pipeline.run_log import RunLog


def run_images(
    bundle: Annotated[Path, typer.Argument(help="a MONAI bundle's folder")],
    images: Annotated[list[Path], typer.Argument(help="files, DICOM series folders, or folders of either")],
    out: Annotated[Path, typer.Option(help="where masks and records go")],
    method: Annotated[str, typer.Option(help="see `monai-tta methods`")] = "grata",
    choose: Annotated[list[str], typer.Option(help="a choice of the method as NAME=VALUE, e.g. statistics=volume")] = [],  # noqa: B006
    head: Annotated[str, typer.Option(help="softmax, sigmoid or auto")] = "auto",
    learn: Annotated[str, typer.Option(help="volume or window")] = "volume",
    reset: Annotated[str, typer.Option(help="volume, window or never")] = "volume",
    budget: Annotated[int | None, BUDGET] = None,
    seed: Annotated[int, typer.Option(help="seed of all random draws")] = 0,
    precision: Annotated[str, typer.Option(help="exact or fast")] = PRECISION,
    guard: Annotated[list[str], typer.Option(help="NAME[:VALUE], e.g. volume-change:0.3; may be given several times")] = [],  # noqa: B006
    reference: Annotated[Path | None, typer.Option(help="what `monai-tta reference` wrote, for guards that need it")] = None,
    checkpoint: Annotated[str, typer.Option(help="file in the bundle's models folder")] = "model.pt",
    anew: Annotated[
        bool, typer.Option("--anew", help="forget an unfinished run in the same --out, start from the first image")
    ] = False,
) -> None:
    """Segment images with a bundle's network, adapted to each; masks are in each image's own space.

    records.json has an entry for each image in the order in which they were taken, null where one failed.

    A run that was stopped (Ctrl-C, kill, a full disk) is gone on with by the same command: what it had finished is not done
    again. With --reset never it can't be, because what was learnt is lost; --anew starts from the first image. A run that came
    to its end is over; the same command does it again.

    Ends with 0 when all images are segmented, 2 when what is asked for can't be done, 3 when an image failed, 130 after Ctrl-C.
    """
    choices: dict[str, Any] = {
        "head": head,
        "learn": learn,
        "reset": reset,
        "budget": budget_of(budget),
        "seed": seed,
        "precision": precision,
    }
    with report_errors(ValueError, OSError):
        choices["guard"] = parse_guards(guard, reference)
    with _one_interrupt():
        raise typer.Exit(_ended(bundle, checkpoint, images, out, (method, choose), choices, anew))


def _ended(
    bundle: Path, checkpoint: str, images: list[Path], out: Path, method: tuple[str, list[str]], choices: Any, anew: bool
) -> int:
    """Do it, and tell how it ended."""
    journal: RunLog | None = None
    try:
        with report_errors(Exception):  # whatever goes wrong, nobody at a command line is shown a traceback
            chosen = with_bundle_predictor(bundles.named_method(*method), bundle, checkpoint)
            source = bundles.load_bundle(bundle, checkpoint)
            files = find_images(images)
            outside(out, [*images, *files])
            journal = RunLog(out, files, cohort.settings_of(bundle, checkpoint, chosen, choices), anew=anew)
            todo = cohort.segment(source, files, out, chosen, journal=journal, **choices)
            with closing(todo), Progress(console=console) as progress:
                outcomes = list(progress.track(todo, total=len(files), description="segmenting"))
            cohort.write_records(journal.records(), out / "records.json")
            code = _report(outcomes, out)
            journal.close()
            return code
    except KeyboardInterrupt:
        _interrupted(journal)
        return 130
    except typer.Exit:
        if journal is not None and journal.cases:
            cohort.write_what_is_done(journal)
        raise


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """The first Ctrl-C stops the run; a second one, while it tidies up, is not heard, a third ends the process at once."""
    heard = 0

    def hear(number: int, frame: Any) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            raise KeyboardInterrupt
        if heard > 2:
            os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if heard else before)  # the process is about to end with 130


def _interrupted(journal: RunLog | None) -> None:
    """Ctrl-C: what is finished stays."""
    if journal is None or not journal.cases:
        return say("interrupted; nothing was finished")
    cohort.write_what_is_done(journal)
    finished = f"interrupted; {len(journal.cases)} of {len(journal.images)} segmented, with records.json, in {journal.out}"
    say(f"{finished}; the same command goes on from there")


def _report(outcomes: list[cohort.Outcome], out: Path) -> int:
    """Tell how it went; 3 when an image failed, else 0."""
    for outcome in outcomes:
        if outcome.case and outcome.case.reason:
            say(f"{outcome.image.name}: answered plainly: {outcome.case.reason}")
        if outcome.case and outcome.case.restarted:
            say(f"{outcome.image.name}: the stream was begun anew: {outcome.case.restarted}")
    bad = [o for o in outcomes if o.error]
    earlier = sum(o.before for o in outcomes)
    before = f" ({earlier} of them before this run was stopped)" if earlier else ""
    say(f"{len(outcomes) - len(bad)} of {len(outcomes)} segmented{before}; masks and records.json in {out}")
    for outcome in bad:
        say(f"failed: {outcome.image.name}: {outcome.error}", "red")
    return 3 if bad or not outcomes else 0
