"""`monai-tta run`: masks of images, by a bundle's network that is adapted to each."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_tta.cli.case_options import CaseOptions, Group, Prompts, Sequences, as_images, say_skipped
from monai_tta.cli.check import CheckInputs, Checks, Fix, checked_inputs
from monai_tta.cli.console import report_errors, say
from monai_tta.cli.guard_option import GUARDS, parse_guards
from monai_tta.cli.interrupt import stop_in_order
from monai_tta.cli.load_to_adapt import load_to_adapt
from monai_tta.cli.options import (
    Budget,
    Bundle,
    Checkpoint,
    Choices,
    ConfigEntries,
    ConfigFiles,
    Device,
    PrecisionOption,
    Seed,
    complete_method,
    help_end,
    parse_budget,
    parse_changes,
)
from monai_tta.cli.progress import show_progress
from monai_tta.cli.quality_options import Accept, NoQuality, QualityFile, QualityOptions, load_quality
from monai_tta.cli.run_checks import check_names
from monai_tta.cli.run_facts import RunRequest, facts_of
from monai_tta.cli.run_report import describe_outcome, keep_what_is_done, report_interrupt, report_outcomes, report_triage
from monai_tta.cli.uncertainty_options import Mirrors, Uncertainty, UncertaintyOptions, views_for_maps
from monai_tta.pipeline.match_names import letters
from monai_tta.pipeline.method_by_name import named_method
from monai_tta.pipeline.shipped_bundles import find_bundle

if TYPE_CHECKING:
    from monai_tta.pipeline.records import Records
    from monai_tta.pipeline.run_log import RunLog
    from monai_tta.pipeline.segment import Outcome

HELP = """Segment images with a bundle's network, adapted to each. Masks are in each image's own space.

Without --method the safe way is taken, and one line says which and why:
careful where the checkpoint has a gain predictor, and no adaptation where
that one is of no use; else statistics pooled over the volume and blended
0.3 where the network has running statistics; else no adaptation.

In a folder, images are found at any depth; what is skipped is said at the
end. The mask of p1/ct.nii.gz is p1_ct_seg.nii.gz.

records.json and records.csv say of each image what became of it, how much
of each label its mask holds (in ml, where the image says how large a voxel
is), and what went wrong where it failed. They name masks, never paths;
--anonymous leaves the names out.

Where the checkpoint has a quality predictor (see `monai-tta calibrate`), each
mask comes with the Dice that is to be expected of it, and an interval.
--accept 0.8 sorts the masks by it: use, look at, do not use.

--uncertainty writes a map beside each mask, a_uncertainty.nii.gz: how much
the answers behind the mask disagree, voxel by voxel. It changes no mask.

Inputs are checked first, where there is a reference (see `monai-tta check`).
--fix corrects them; the masks then lie on the images as given.

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


Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGES", help="files, folders of DICOM series, folders with either at any depth, or datalists (.json, .csv)"
    ),
]
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
    main_output: MainOutput = None,
    guard: Guards = [],  # noqa: B006
    reference: Reference = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    set_: ConfigEntries = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    group: Group = "",
    sequences: Sequences = "",
    prompts: Prompts = None,
    restart: Restart = False,
    anonymous: Anonymous = False,
    fix: Fix = False,
    check: CheckInputs = True,
    quality: QualityFile = None,
    no_quality: NoQuality = False,
    accept: Accept = None,
    uncertainty: Uncertainty = False,
    mirrors: Mirrors = None,
) -> None:
    """Segment images with a bundle's network, adapted to each. Masks are in each image's own space."""
    options = {"head": head, "learn": learn, "reset": reset, "seed": seed, "precision": precision}
    options |= {"budget": parse_budget(budget), "main_output": main_output}
    with report_errors():
        worth = QualityOptions(quality, no_quality, accept)
        maps = UncertaintyOptions(uncertainty, mirrors)
    request = RunRequest(
        bundle=bundle,
        images=images,
        out=out,
        checkpoint=checkpoint,
        changes=(config, set_),
        device=device,
        method=method,
        choices=choose,
        guards=guard,
        reference=reference,
        restart=restart,
        anonymous=anonymous,
        checks=Checks(reference, check, fix),
        options=options,
        cases=CaseOptions(group, sequences, prompts),
        quality=worth,
        uncertainty=maps,
    )
    with stop_in_order():
        with report_errors():
            root = check_names(request)  # before torch is imported, which takes seconds
        with as_images(images, request.cases, root, out) as found:
            raise typer.Exit(_run(replace(request, images=found), images))


def _run(request: RunRequest, given: list[Path]) -> int:
    """Segment the images, which were ``given`` as files and folders; the exit code."""
    log: RunLog | None = None
    records: Records | None = None
    outcomes: list[Outcome] = []
    try:
        with report_errors():
            bundle = find_bundle(request.bundle, nnunet=True)
            from monai_tta.core.record import reasons_on_record_alone
            from monai_tta.pipeline.find_images import check_output_folder
            from monai_tta.pipeline.image_names import named_images
            from monai_tta.pipeline.named_warnings import warnings_with_names
            from monai_tta.pipeline.records import Records
            from monai_tta.pipeline.run_log import RunLog
            from monai_tta.pipeline.segment import segment, settings_of
            from monai_tta.pipeline.source_files import weights_file

            options = {**request.options, "guard": parse_guards(request.guards, request.reference)}
            options["uncertainty"] = views_for_maps(bundle, request.uncertainty)
            named = None if request.method is None else named_method(request.method, request.choices)
            changes = parse_changes(*request.changes)
            source, method, checkpoint = load_to_adapt(bundle, request.checkpoint, request.device, changes, named)
            found = named_images(request.images, request.out)
            files, names = found.images, found.names
            check_output_folder(request.out, [*given, *files])
            settings = settings_of(bundle, checkpoint, method, options) | changes.settings(bundle)
            weights = weights_file(bundle, checkpoint)
            checked, depends = checked_inputs(source, weights, files, names, request.checks)
            predictor, depends_too = load_quality(source, bundle, weights, changes, request.quality)
            settings |= {**depends, **depends_too}
            options["quality"] = predictor
            log = RunLog(request.out, files, settings, names=names, restart=request.restart)
            facts = facts_of(request, changes, source, method, checkpoint, settings)
            records = Records(request.out, facts, len(files))
            todo = segment(source, files, request.out, method, names=names, run_log=log, checked=checked, **options)
            with (
                closing(todo),
                reasons_on_record_alone(),
                warnings_with_names(say),
                show_progress("segmenting", len(files), "images") as progress,
            ):
                for outcome in todo:
                    outcomes.append(outcome)
                    records.add(outcome)
                    progress.advance(describe_outcome(outcome, facts.names), counts=not outcome.earlier_run)
            records.write(finished=True)
            code = report_outcomes(outcomes, request.out, facts.names)
            report_triage(outcomes, predictor, request.quality.accept)
            say_skipped(found)
            log.close()
            return code
    except KeyboardInterrupt:
        report_interrupt(log, records, outcomes)
        return 130
    except typer.Exit:
        keep_what_is_done(log, records, outcomes)
        raise
