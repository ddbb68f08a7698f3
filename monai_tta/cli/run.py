"""`monai-tta run`: masks of images, by a bundle's network that is adapted to each."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import Any

import typer

from monai_tta.cli.case_options import CaseOptions, Group, Images, Prompts, Sequences, as_images
from monai_tta.cli.check import CheckInputs, Checks, Fix
from monai_tta.cli.console import report_errors
from monai_tta.cli.interrupt import stop_in_order
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
    help_end,
    parse_budget,
)
from monai_tta.cli.quality_options import Accept, NoQuality, QualityFile, QualityOptions
from monai_tta.cli.run_cases import run_cases
from monai_tta.cli.run_checks import check_names
from monai_tta.cli.run_facts import RunRequest
from monai_tta.cli.run_options import (
    Anonymous,
    Format,
    Guards,
    Head,
    Learn,
    MainOutput,
    Method,
    Out,
    Preview,
    Reference,
    Report,
    Reset,
    Restart,
    ShardOption,
    Workers,
    chosen_shard,
)
from monai_tta.cli.uncertainty_options import Mirrors, Uncertainty, UncertaintyOptions

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

--preview writes a picture beside each mask, a_seg_preview.png, with the
outlines of the unadapted and the adapted answer. Previews show patients'
images. The unadapted answer is computed once more for them.

--format nrrd or mha writes masks and maps as such; dicom-seg writes a DICOM
Segmentation of each DICOM series, which refers to its slices.

Inputs are checked first, where there is a reference (see `monai-tta check`).
--fix corrects them; the masks then lie on the images as given.

After Ctrl-C, a kill or a full disk the same command resumes: it does not
segment again what is finished. A run with --reset never cannot resume,
because what was learnt is lost; --restart starts from the first image.
After a run that came to its end, the same command segments all again.

--workers 4 spreads the images over four processes of this machine. --shard
3/16 segments one of 16 shares of them, into the same --out as the others;
torchrun says the share by itself. The exit code is about this share alone.
"""
HELP_END = help_end(
    "monai-tta run hippocampus_mri SCANS --out MASKS",
    "monai-tta run BUNDLE a.nii.gz --out MASKS --method tent --choose steps=4",
    codes=(0, 2, 3, 130),
)


def asked_to_run(
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
    shard: ShardOption = None,
    workers: Workers = 1,
    report: Report = False,
    format_: Format = None,
    preview: Preview = False,
) -> RunRequest:
    """What the command line asks for.

    Raises:
        typer.Exit: with code 2, after a line that says which options exclude each other.
    """
    options = {"head": head, "learn": learn, "reset": reset, "seed": seed, "precision": precision}
    options |= {"budget": parse_budget(budget), "main_output": main_output}
    with report_errors():
        worth = QualityOptions(quality, no_quality, accept)
        maps = UncertaintyOptions(uncertainty, mirrors)
        share = chosen_shard(shard)
    return RunRequest(
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
        shard=share,
        workers=workers,
        report=report,
        preview=preview,
        mask_format=format_,
    )


@wraps(asked_to_run)
def run_images(**given: Any) -> None:
    """Segment images with a bundle's network, adapted to each. Masks are in each image's own space."""
    request = asked_to_run(**given)
    with stop_in_order():
        with report_errors():
            root = check_names(request)  # before torch is imported, which takes seconds
        with as_images(request.images, request.cases, root, request.out) as found:
            raise typer.Exit(run_cases(replace(request, images=found), request.images))
