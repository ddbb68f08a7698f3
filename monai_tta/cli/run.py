"""`monai-tta run`: masks of images, by a bundle's network that is adapted to each."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import report_errors, say
from monai_tta.cli.guard_option import GUARDS, check_guard_names, parse_guards
from monai_tta.cli.interrupt import stop_in_order
from monai_tta.cli.options import (
    Budget,
    Bundle,
    Checkpoint,
    Choices,
    Device,
    PrecisionOption,
    Seed,
    complete_method,
    help_end,
    parse_budget,
)
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.match_names import letters
from monai_tta.pipeline.method_by_name import find_method_name, named_method
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.core.method import AdaptationMethod
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.pipeline.run_log import RunLog
    from monai_tta.pipeline.segment import Outcome

HELP = """Segment images with a bundle's network, adapted to each. Masks are in each image's own space.

Without --method the safe way is taken, and one line says which and why:
careful where the checkpoint has a gain predictor; else statistics pooled
over the volume and blended 0.3 where the network has running statistics;
else no adaptation.

records.json has an entry for each image, in the order in which they were
given, and null where one failed.

After Ctrl-C, a kill or a full disk the same command resumes: it does not
segment again what is finished. A run with --reset never cannot resume,
because what was learnt is lost; --restart starts from the first image.
After a run that came to its end, the same command segments all again.
"""
HELP_END = help_end(
    "monai-tta run hippocampus_mri SCANS --out MASKS",
    "monai-tta run BUNDLE a.nii.gz --out MASKS --method tent --choose steps=4",
    codes=(0, 2, 3, 130),
)


def complete_guard(incomplete: str) -> list[str]:
    """Names of guards that begin so, for the shell."""
    return [name for name in GUARDS if letters(name).startswith(letters(incomplete))]


Images = Annotated[list[Path], typer.Argument(metavar="IMAGES", help="files, folders of DICOM series, or folders of either")]
Out = Annotated[Path, typer.Option(help="the folder for masks and records.json")]
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
Restart = Annotated[
    bool, typer.Option("--restart", help="forget an unfinished run in the same --out and start from the first image")
]


def run_images(
    bundle: Bundle,
    images: Images,
    out: Out,
    method: Method = None,
    choose: Choices = [],  # noqa: B006
    head: Head = "auto",
    learn: Learn = "volume",
    reset: Reset = "volume",
    budget: Budget = None,
    seed: Seed = 0,
    precision: PrecisionOption = "exact",
    guard: Guards = [],  # noqa: B006
    reference: Reference = None,
    checkpoint: Checkpoint = "model.pt",
    device: Device = None,
    restart: Restart = False,
) -> None:
    """Segment images with a bundle's network, adapted to each. Masks are in each image's own space."""
    options = {"head": head, "learn": learn, "reset": reset, "seed": seed, "precision": precision}
    options["budget"] = parse_budget(budget)
    request = _Request(
        bundle=bundle,
        images=images,
        out=out,
        checkpoint=checkpoint,
        device=device,
        method=method,
        choices=choose,
        guards=guard,
        reference=reference,
        restart=restart,
        options=options,
    )
    with stop_in_order():
        raise typer.Exit(_run(request))


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the command line asked for; ``options`` are keyword arguments of `AdaptiveInferer`."""

    bundle: Path
    images: list[Path]
    out: Path
    checkpoint: str
    device: str | None
    method: str | None
    choices: list[str]
    guards: list[str]
    reference: Path | None
    restart: bool
    options: dict[str, Any]


def _run(request: _Request) -> int:
    """Segment the images; the exit code."""
    log: RunLog | None = None
    try:
        with report_errors():
            bundle = _check_names(request)  # before torch is imported, which takes seconds

            from monai_tta.core.record import reasons_on_record_alone
            from monai_tta.pipeline.bundle import load_bundle, source_files
            from monai_tta.pipeline.find_images import check_output_folder, find_images
            from monai_tta.pipeline.run_log import RunLog
            from monai_tta.pipeline.segment import segment, settings_of, write_records

            options = {**request.options, "guard": parse_guards(request.guards, request.reference)}
            named = None if request.method is None else named_method(request.method, request.choices)
            source = load_bundle(bundle, request.checkpoint, *([] if request.device is None else [request.device]))
            method = _method(named, source, source_files(bundle, request.checkpoint)[1][0])
            files = source.cases(find_images(request.images))
            check_output_folder(request.out, [*request.images, *files])
            if source.about:
                say(source.about)
            settings = settings_of(bundle, request.checkpoint, method, options)
            log = RunLog(request.out, files, settings, restart=request.restart, files_of=source.files_of)
            todo = segment(source, files, request.out, method, run_log=log, **options)
            outcomes = []
            with closing(todo), reasons_on_record_alone(), show_progress("segmenting", len(files), "images") as progress:
                for outcome in todo:
                    outcomes.append(outcome)
                    progress.advance(_describe(outcome), counts=not outcome.earlier_run)
            write_records(log.records(), request.out / "records.json")
            code = _report(outcomes, request.out)
            log.close()
            return code
    except KeyboardInterrupt:
        _report_interrupt(log)
        return 130
    except typer.Exit:
        _keep_what_is_done(log)
        raise


def _check_names(request: _Request) -> Path:
    """Check every name that was given; the bundle's folder."""
    bundle = find_bundle(request.bundle, nnunet=True)
    if request.method is not None:
        find_method_name(request.method)
    elif request.choices:
        raise ValueError("--choose is for a method; give --method, too")
    check_guard_names(request.guards)
    return bundle


def _method(named: AdaptationMethod | None, source: SourceBundle, weights: Path) -> AdaptationMethod:
    """The named method with what belongs to the checkpoint; the safe one where none is named, which is said in a line."""
    from monai_tta.pipeline.bundle_predictor import safe_method

    if named is None:
        named, which_and_why = safe_method(source.network, weights, source.can_calibrate)
        say(f"method: {which_and_why}")
    return named.for_checkpoint(weights)


def _describe(outcome: Outcome) -> str:
    """One image's outcome in a few words."""
    if outcome.earlier_run:
        return f"{outcome.image.name} was done before"
    if outcome.case is None:
        return f"{outcome.image.name} failed"
    return f"{outcome.image.name} {'adapted' if outcome.case.adapted else 'unadapted'}, {outcome.case.seconds:.1f} s"


def _report(outcomes: list[Outcome], out: Path) -> int:
    """Say how it went; 3 when an image failed, else 0."""
    for outcome in outcomes:
        if outcome.case and outcome.case.reason:
            say(f"{outcome.image.name}: unadapted answer: {outcome.case.reason}")
        if outcome.case and outcome.case.restarted:
            say(f"{outcome.image.name}: the stream was restarted: {outcome.case.restarted}")
    failed = [outcome for outcome in outcomes if outcome.error]
    earlier = sum(outcome.earlier_run for outcome in outcomes)
    before = f" ({earlier} of them before this run was stopped)" if earlier else ""
    say(f"{len(outcomes) - len(failed)} of {len(outcomes)} segmented{before}; masks and records.json in {out}")
    for outcome in failed:
        say(f"failed: {outcome.image.name}: {outcome.error}", "red")
    return 3 if failed or not outcomes else 0


def _report_interrupt(log: RunLog | None) -> None:
    """Ctrl-C: what is finished stays."""
    if log is None or not log.cases:
        say("interrupted; nothing was finished")
        return
    _keep_what_is_done(log)
    say(
        f"interrupted; {len(log.cases)} of {len(log.images)} segmented, with records.json, in {log.out}; the same command resumes"
    )


def _keep_what_is_done(log: RunLog | None) -> None:
    """Write the records of a run that was stopped."""
    if log is not None and log.cases:
        from monai_tta.pipeline.segment import write_what_is_done

        write_what_is_done(log)
