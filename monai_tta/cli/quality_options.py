"""What `monai-tta run` is told of the worth of masks, and what it and `calibrate` say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_tta.cli.console import print_line, print_table, say
from monai_tta.core.record import SURFACE_TOLERANCE
from monai_tta.reporting.number_format import two_digits

if TYPE_CHECKING:
    from monai_tta.pipeline.bundle import SourceBundle
    from monai_tta.pipeline.config_changes import ConfigChanges
    from monai_tta.quality.quality_predictor import QualityPredictor

QualityFile = Annotated[
    Path | None,
    typer.Option(help="the quality predictor that `monai-tta calibrate` wrote; that beside the checkpoint if not given"),
]
Accept = Annotated[
    float | None,
    typer.Option(help="the Dice that a mask must have to be used, e.g. 0.8: sorts the masks by what is expected of them"),
]
_WORDS = {"dice": "Dice", "nsd": f"share of surface within {SURFACE_TOLERANCE} voxel"}
NoQuality = Annotated[bool, typer.Option("--no-quality", help="do not predict what masks are worth")]


@dataclass(frozen=True)
class QualityOptions:
    """What the command line says of the worth of masks.

    Args:
        file: of the quality predictor; None for the one beside the checkpoint.
        off: whether nothing is to be predicted.
        accept: the Dice that a mask must have; None where none was named.

    Raises:
        ValueError: for options that exclude each other, or a Dice that there is not.
    """

    file: Path | None = None
    off: bool = False
    accept: float | None = None

    def __post_init__(self) -> None:
        if self.accept is not None and not 0 < self.accept < 1:
            raise ValueError(f"--accept is a Dice between 0 and 1, found {self.accept:g}")
        if self.off and (self.file is not None or self.accept is not None):
            raise ValueError("--no-quality predicts nothing, so it excludes --quality and --accept")

    def words(self) -> list[str]:
        """As words of the command line, without paths."""
        words = [] if self.file is None else ["--quality", self.file.name]
        words += ["--no-quality"] if self.off else []
        return words + ([] if self.accept is None else ["--accept", f"{self.accept:g}"])


def load_quality(
    source: SourceBundle, root: Path, weights: Path, changes: ConfigChanges, options: QualityOptions
) -> tuple[QualityPredictor | None, dict[str, Any]]:
    """The quality predictor of a run, and what the run depends on; says so where there is none.

    Args:
        source: the bundle.
        root: its folder.
        weights: the checkpoint's file.
        changes: what is laid over its config.
        options: of the command line.

    Raises:
        ValueError: for a file that was named and cannot be used, or --accept without a predictor.
    """
    from monai_tta.pipeline.bundle_predictor import find_quality
    from monai_tta.pipeline.content_hashes import content_hash
    from monai_tta.quality.predictor_files import quality_file

    if options.off:
        return None, {"quality": ""}
    predictor, lack = find_quality(source.network, weights, root, changes, options.file)
    if lack is not None:
        if options.accept is not None:
            raise ValueError(f"--accept needs a quality predictor, and {lack}")
        say(f"what the masks are worth is not known: {lack}")
        return None, {"quality": ""}
    return predictor, {"quality": content_hash(options.file or quality_file(weights))}


def print_quality(quality: QualityPredictor, file: Path) -> None:
    """Print what held on the images that were held out.

    Args:
        quality: the predictor that was fitted.
        file: where it was written.
    """
    from monai_tta.quality.quality_predictor import FIGURES

    rows = []
    for one in quality.about["structures"]:
        for kind, ending in (("unadapted", ""), ("adapted", ", adapted"))[: 2 if quality.adapted else 1]:
            cells = []
            for figure in FIGURES:
                cells += [two_digits(one[figure][f"mean absolute error held out{ending}"])]
                cells += [f"{one[figure][f'coverage held out{ending}']:.0%}"]
            rows.append((f"{one['structure']}, {kind}", *cells))
    inside = f"true one inside the {quality.rate:.0%} interval"
    heads = [words for figure in FIGURES for words in (f"expected {_WORDS[figure]} is off by", inside)]
    print_table(["structure", *heads], rows)
    before, after = (quality.about[f"calibration error {when}"] for when in ("before", "after"))
    print_line(
        f"probabilities: expected calibration error {before:.4f}, with a temperature of {quality.temperature:g} {after:.4f} "
        "(all of this on images that were held out)"
    )
    print_line(f"written: {file}; `monai-tta run` then says what is to be expected of each mask")
