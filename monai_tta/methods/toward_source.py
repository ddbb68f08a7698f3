"""Move the image towards what the source's images look like: half-way, inside the body, in a few figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.no_learning import NoLearning
from monai_tta.core.objectives import Head
from monai_tta.core.record import repr_for_records
from monai_tta.core.shadow import Shadow
from monai_tta.core.source_look import Background, SourceLook, backgrounds_of, body_of, look_of, with_amplitudes, with_moments
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.predictor_files import predictor_file, read_predictor

CHANGES = {"moments": with_moments, "amplitudes": with_amplitudes}


class MovedShadow(Shadow):
    """A shadow of the source that sees windows moved towards the source's look.

    How they are moved is found on the adaptation windows, once for an image: then all its windows are moved alike.
    """

    def __init__(self, source: nn.Module, head: Head, change: str, share: float, look: SourceLook) -> None:
        super().__init__(source, head, None)
        self.change = change
        self.share = share
        self.look = look
        self.own: SourceLook | None = None
        self.backgrounds: tuple[Background, ...] = ()

    def pool_statistics(self, windows: Tensor, unbiased: bool = False) -> None:
        """Note the look of these windows, which are of one image.

        Raises:
            CannotAdapt: when they have another number of channels than the source's images.
        """
        if windows.shape[1] != len(self.look.means):
            raise CannotAdapt(f"the source's images have {len(self.look.means)} channel(s), this one {windows.shape[1]}")
        super().pool_statistics(windows, unbiased)
        self.backgrounds = backgrounds_of(windows)
        self.own = look_of(windows, self.backgrounds)

    def moved(self, windows: Tensor) -> Tensor:
        """Windows ``(N, C, *spatial)`` moved towards the source's look."""
        if self.own is None:
            return windows
        return CHANGES[self.change](windows, body_of(windows, self.backgrounds), self.own, self.look, self.share)

    def outputs(self, windows: Tensor) -> Any:
        """Whatever the network returns for the moved windows."""
        return super().outputs(self.moved(windows))


@dataclass(frozen=True, kw_only=True)
class TowardSource(NoLearning):
    """Show the source network each window moved towards the look of the source's images; learn nothing.

    "moments" moves each channel's mean and standard deviation (Reinhard et al. 2001, IEEE CG&A 21(5), in the network's own
    channels). "amplitudes" moves the amplitude of low spatial frequencies and leaves their phase, as FDA does with training
    images (Yang & Soatto, CVPR 2020, arXiv 2004.05498); there per component, here per band of the radial frequency. Ours: both go
    only a share of the way, because all the way ruins images that differ for a good reason, and both change only the body, which
    is all that does not have the background's value. The way is found on the adaptation windows, and is the same for all windows.

    It needs a few dozen figures of the source's images. `monai-tta calibrate` takes them, from images without labels, and keeps
    them in the gain predictor's file. It changes the image, not the network, so it works with every kind of normalisation. It
    costs two Fourier transforms of each window, or less, and keeps nothing from case to case.

    Args:
        change: "moments" or "amplitudes".
        share: of the way, in (0, 1].
        figures: a gain predictor's file that holds the figures. "auto" is the one beside a bundle's checkpoint.
        look: the figures themselves, in place of a file.

    Raises:
        ValueError: for another change or share.
    """

    change: str = "moments"
    share: float = 0.5
    figures: str = "auto"
    look: SourceLook | None = None

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise ValueError(f"change must be one of {', '.join(CHANGES)}, found {self.change!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is a part of the way, above 0 and at most 1, found {self.share}")

    @property
    def pools_statistics(self) -> bool:
        """True: an image is moved by what its adaptation windows show together."""
        return True

    @property
    def record_name(self) -> str:
        """Without the figures, and with the name of their file alone."""
        return repr_for_records(replace(self, look=None, figures=Path(self.figures).name))

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of figures, where there is one."""
        return () if self.look is not None or self.figures == "auto" else (Path(self.figures),)

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """The share of the way, under the name of the change."""
        return {f"source {self.change}": self.share}

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """For "auto", the gain predictor beside a file of weights, where there is one.

        Raises:
            PredictorError: when the file cannot be read: at once, rather than once per case.
        """
        beside = predictor_file(weights)
        found = replace(self, figures=str(beside)) if self.figures == "auto" and beside.is_file() else self
        if found.look is None and found.figures != "auto":
            read_predictor(Path(found.figures))
        return found

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow that sees moved windows.

        Raises:
            CannotAdapt: without figures of the source's images.
        """
        return MovedShadow(source, head, self.change, self.share, self._figures())

    def _figures(self) -> SourceLook:
        """The figures, from their file unless they were given."""
        if self.look is not None:
            return self.look
        if self.figures == "auto":
            raise CannotAdapt(
                "TowardSource needs figures of the source's images, and this checkpoint has none beside it: make them by "
                "`monai-tta calibrate BUNDLE IMAGES`, or choose figures=FILE"
            )
        path = Path(self.figures)
        try:
            look = read_predictor(path).look
        except PredictorError as error:
            raise cannot_use(path, error) from error
        if look is None:
            raise CannotAdapt(f"{path.name} holds no figures of the source's images: calibrate again")
        return look
