"""What `monai-tta calibrate` says at its end: what both predictors found, and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.console import print_json, print_line, print_table
from monai_tta.cli.quality_options import print_quality

if TYPE_CHECKING:
    from monai_tta.quality.gain_predictor import GainPredictor
    from monai_tta.quality.quality_predictor import QualityPredictor


@dataclass
class Calibrated:
    """What a calibration made.

    Args:
        file: the gain predictor's, where one is made; the quality predictor's lies beside it.
        gain: the gain predictor; None where only the quality was asked for.
        quality: the quality predictor; None without a label for each image.
        left_out: a line for each image that was left out.
    """

    file: Path
    gain: GainPredictor | None = None
    quality: QualityPredictor | None = None
    left_out: list[str] = field(default_factory=list)

    def add(self, predictor: Any) -> None:
        """Note one of both.

        Args:
            predictor: a gain predictor, or a quality predictor.
        """
        from monai_tta.quality.gain_predictor import GainPredictor

        if isinstance(predictor, GainPredictor):
            self.gain = predictor
        else:
            self.quality = predictor

    @property
    def useless(self) -> str | None:
        """Why the gain predictor is of no use; None where it is, or there is none."""
        return self.gain.useless_because() if self.gain else None


def report_calibration(made: Calibrated, as_json: bool) -> None:
    """Say what a calibration found, and where it is.

    Args:
        made: by it.
        as_json: whether to print one JSON document.
    """
    from monai_tta.quality.predictor_files import quality_beside

    gain, quality = made.gain, made.quality
    if as_json:
        found = {**gain.about, "margin": gain.margin} if gain else None
        written = {
            "written": str(made.file) if gain else None,
            "quality written": str(quality_beside(made.file)) if quality else None,
        }
        about = quality.about if quality else None
        print_json({"found": found, "quality": about, **written, "of no use because": made.useless, "left out": made.left_out})
        return
    if gain:
        _print_predictor(gain, made.file, made.useless)
    if quality:
        print_quality(quality, quality_beside(made.file))
    else:
        print_line("no quality predictor is made: without true labels nothing tells how good a mask is")


def _print_predictor(predictor: GainPredictor, file: Path, useless: str | None) -> None:
    from monai_tta.preparation.examples import OWN_ANSWERS

    rows = [(name, f"{value:.3f}" if isinstance(value, float) else str(value)) for name, value in predictor.about.items()]
    print_table(["of", "found"], [*rows, ("margin", f"{predictor.margin:g} spreads")])
    if OWN_ANSWERS in str(predictor.about.get("labels")):
        print_line(
            "gain and harm are measured against the network's own answers to the undistorted images, not against true labels"
        )
    if useless:
        print_line(f"of no use: {useless}")
        print_line(
            f"written: {file}; because of it `monai-tta run` does not adapt this checkpoint unless a --method is named. "
            "More images, or a larger --harm, may help"
        )
        return
    print_line(
        f"written: {file}; `monai-tta run` finds it in its bundle; elsewhere give --method careful --choose predictor=FILE"
    )
