"""`monai-tta check`: is anything wrong with the inputs? Asked before anything is adapted; `run` asks it, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.case_options import CaseOptions, Group, Images, Sequences, searched_images
from monai_tta.cli.console import print_json, print_line, report_errors, say
from monai_tta.cli.options import AsJson, Bundle, Checkpoint, Device, help_end
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.named_warnings import warnings_with_names
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.reporting.case_rows import LOOKS_USUAL

if TYPE_CHECKING:
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.pipeline.check_input import CheckedInput
    from monai_tta.pipeline.segment_workers import InputChecks
    from monai_tta.quality.input_reference import InputReference

HELP = """Say whether images look like the source's, and if not, which correction would make them so.

Nothing is changed. Looked for are mirrored and permuted axes, inverted
grey, Hounsfield units off by 1024, intensities on another scale, a wrong
spacing, a padded or cropped field of view, colours in another order, a
mask given as image, and images of another kind. Where several
corrections fit equally well, all are named.

It compares with what `monai-tta reference` measured at the source:
models/reference.json of the bundle, or --reference FILE.
"""
HELP_END = help_end(
    "monai-tta check hippocampus_mri SCANS",
    "monai-tta check BUNDLE SCANS --reference reference.json --json",
    codes=(0, 2, 3, 4),
)

Reference = Annotated[
    Path | None, typer.Option(help="what `monai-tta reference` wrote; the bundle's own models/reference.json if not given")
]

Fix = Annotated[bool, typer.Option("--fix", help="correct an input where exactly one correction makes it look like the source's")]
CheckInputs = Annotated[bool, typer.Option("--check/--no-check", help="check inputs first, where the bundle has a reference")]


def check(
    bundle: Bundle,
    images: Images,
    reference: Reference = None,
    checkpoint: Checkpoint = None,
    group: Group = "",
    sequences: Sequences = "",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say whether images look like the source's, and if not, which correction would make them so."""
    with report_errors():
        root = find_bundle(bundle, nnunet=True)

        from monai_tta.pipeline.bundle import load_bundle
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.source_files import weights_file

        name = checkpoint_name(root, checkpoint)
        weights = weights_file(root, name)
        known, file = _read_reference(weights, reference)
        if known is None:
            raise ValueError(
                f"{file} has no figures of the source's inputs; `monai-tta reference` measures them from five images on"
            )
        source = load_bundle(root, name, device)
        with searched_images(images, CaseOptions(group, sequences), root) as found_images:
            with warnings_with_names(say):
                checked = _check(source, known, found_images.images, found_images.names)
    if as_json:
        print_json([_as_dict(label, found) for label, found in checked])
    else:
        for label, found in checked:
            print_line(f"{label}: {_words(found)}")
    failed = any(found.finding is None for _, found in checked)
    noticed = any(found.finding is not None and found.finding.noticed for _, found in checked)
    if failed or noticed:
        raise typer.Exit(3 if failed else 4)


@dataclass(frozen=True)
class Checks:
    """What `run` was told of input checks: a file to compare with, or None; whether to check; whether to correct."""

    reference: Path | None
    wanted: bool
    fix: bool

    def words(self) -> list[str]:
        """As words of the command line; the reference is said elsewhere."""
        return [] if self.wanted and not self.fix else ["--fix" if self.fix else "--no-check"]


def input_checks(source: SourceBundle, weights: Path, checks: Checks) -> tuple[InputChecks | None, dict[str, Any]]:
    """How the inputs of a run are checked, where there is something to compare with; says so where there is none.

    Args:
        source: the bundle.
        weights: the checkpoint's file.
        checks: what the user wants.

    Returns:
        how they are checked, or None; and what the masks depend on besides, for the run's settings.

    Raises:
        ValueError: where inputs are to be corrected and cannot be checked; or for a damaged reference.
    """
    if not checks.wanted:
        if checks.fix:
            raise ValueError("--fix needs the check that --no-check leaves out")
        return None, {}
    known = _known_for_run(weights, checks)
    if known is None:
        return None, {}

    from monai_tta.pipeline.bundle import BundleError
    from monai_tta.pipeline.content_hashes import content_hash
    from monai_tta.pipeline.input_view import InputView
    from monai_tta.pipeline.segment_workers import InputChecks

    reference, file = known
    try:
        with InputView(source):
            pass
    except BundleError as error:
        if checks.fix:
            raise
        say(f"inputs are not checked: {error}")
        return None, {}
    return InputChecks(reference, checks.fix), {"input reference": content_hash(file), "fix": checks.fix}


def checked_inputs(
    source: SourceBundle, checks: InputChecks | None, files: list[Path], names: list[str]
) -> dict[Path, CheckedInput]:
    """Check the inputs of a run, and say what is unusual.

    Args:
        source: the bundle.
        checks: how; None to check nothing.
        files: the images.
        names: what they are called.

    Returns:
        what was found, by image.
    """
    if checks is None or not files:
        return {}
    with warnings_with_names(_keep_quiet):  # when the image is segmented, its warnings are said
        checked = _check(source, checks.reference, files, names, checks.fix)
    for label, found in checked:
        say_unusual(label, found, checks.fix)
    return {found.image: found for _, found in checked}


def say_unusual(label: str, found: CheckedInput, fix: bool) -> None:
    """Say what is unusual about an input of a run, if anything is.

    Args:
        label: what messages call the image.
        found: what its check found.
        fix: whether inputs are corrected.
    """
    if found.finding is None:
        say(f"input: {label}: {_words(found)}", "yellow")
    elif found.finding.noticed:
        done = _done(found) if fix else "not corrected (--fix would, where one correction fits)"
        say(f"input: {label}: {_words(found)}; {done}", "yellow")


def _keep_quiet(text: str) -> None:
    """Say nothing of a warning."""


def _known_for_run(weights: Path, checks: Checks) -> tuple[InputReference, Path] | None:
    """The reference and its file; None where there is none, which is said."""
    file = checks.reference
    if checks.reference is not None or _bundle_file(weights).is_file():
        known, file = _read_reference(weights, checks.reference)
        if known is not None:
            return known, file
    lack = f"{file or 'the bundle'} has no figures of the source's inputs; `monai-tta reference` measures them"
    if checks.fix:
        raise ValueError(f"--fix cannot check inputs: {lack}")
    say(f"inputs are not checked: {lack}")
    return None


def _done(found: CheckedInput) -> str:
    return "not corrected" if found.correction is None else "corrected, and the mask is turned back"


def _check(
    source: SourceBundle, reference: InputReference, files: list[Path], names: list[str], fix: bool = False
) -> list[tuple[str, CheckedInput]]:
    """What was found of each image, with what messages call it."""
    from monai_tta.pipeline.case_file import label_of
    from monai_tta.pipeline.check_input import check_files

    checked: list[tuple[str, CheckedInput]] = []
    with show_progress("checking inputs", len(files), "images") as progress:
        for name, found in zip(names, check_files(source, reference, files, fix), strict=True):
            label = label_of(found.image, name)
            progress.advance(f"{label} {_short_words(found)}")
            checked.append((label, found))
    return checked


def _bundle_file(weights: Path) -> Path:
    from monai_tta.guards.reference_ranges import reference_file

    return reference_file(weights)


def _read_reference(weights: Path, given: Path | None) -> tuple[InputReference | None, Path]:
    from monai_tta.quality.input_reference import read_input_reference

    file = given or _bundle_file(weights)
    return read_input_reference(file), file


def _short_words(found: CheckedInput) -> str:
    if found.finding is None:
        return "cannot be read"
    return "is unusual" if found.finding.noticed else LOOKS_USUAL


def _words(found: CheckedInput) -> str:
    return f"cannot be read: {found.error}" if found.finding is None else found.finding.words


def _as_dict(label: str, found: CheckedInput) -> dict[str, Any]:
    if found.finding is None:
        return {"image": label, "error": found.error}
    return {"image": label, **found.finding.to_dict()}
