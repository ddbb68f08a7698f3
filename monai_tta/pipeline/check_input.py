"""Check one image against the source's inputs: take its figures and, where it is unlike them, those after each correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.input_view import InputView
from monai_tta.pipeline.named_warnings import working_on
from monai_tta.quality.corrections import Correction
from monai_tta.quality.input_figures import answer_figures, geometry_figures, grey_figures
from monai_tta.quality.input_finding import EQUALLY_GOOD, Finding, finding_of
from monai_tta.quality.input_reference import InputReference
from monai_tta.quality.possible_corrections import HomeScale, home_scale, possible_corrections

_KEPT = 2_000_000  # of larger images not all corrected ones are kept in memory at the same time
_TOO_LARGE = 1.2  # logarithm: an image longer than home's by more than this factor (3.3) along any axis is not prepared


@dataclass(frozen=True)
class CheckedInput:
    """An image, what its check found, and what is done about it.

    Args:
        image: the file, or the folder of a DICOM series.
        finding: None where it could not be checked.
        error: why it could not; None where it could.
        correction: the one that is applied; None where none is.
    """

    image: Path
    finding: Finding | None = None
    error: str | None = None
    correction: Correction | None = None

    @property
    def record(self) -> str | None:
        """For the image's record: what was found and whether it was corrected; None where nothing is unusual."""
        if self.finding is None:
            return None if self.error is None else "not checked: the image could not be read and answered"
        if not self.finding.noticed:
            return None
        if self.correction is not None:
            return f"corrected: {self.finding.remedies[0].words}"
        return f"not corrected: {self.finding.words}"


def check_files(
    bundle: SourceBundle, reference: InputReference, images: Sequence[Path], fix: bool = False
) -> Iterator[CheckedInput]:
    """Check images one by one; what is wrong with one does not end the checks.

    Args:
        bundle: the source.
        reference: of its inputs.
        images: files, or folders of DICOM series.
        fix: choose the correction, where exactly one brings the image home.

    Raises:
        BundleError: for a bundle whose preprocessing does not begin with loading.
    """
    with InputView(bundle) as view:
        for image in images:
            yield try_to_check(view, reference, image, fix)


def try_to_check(view: InputView, reference: InputReference, image: Path, fix: bool = False) -> CheckedInput:
    """Check one image; see `check_files`. What is wrong with it is in what is returned."""
    working_on(image)
    try:
        finding = check_file(view, reference, image)
    except Exception as error:  # whatever is wrong with one image must not end the checks of the others
        return CheckedInput(image, error=describe_error(error))
    remedy = finding.only_remedy if fix else None
    return CheckedInput(image, finding, correction=None if remedy is None else remedy.correction)


def check_file(view: InputView, reference: InputReference, image: Path) -> Finding:
    """Check a file, or a folder of a DICOM series.

    Raises:
        OSError, ValueError: for an image that cannot be read.
    """
    return check_image(view, reference, view.loaded(image))


def check_image(view: InputView, reference: InputReference, loaded: Tensor) -> Finding:
    """Check an image as it was loaded, ``(C, *spatial)``.

    The source answers it once. Where it is unlike home, it answers it again after each correction that could bring it home: those
    that the image's size and brightness alone rule out are not answered. Where the image as given cannot be prepared or answered,
    as one of no size on the source's grid, a correction may still help.

    Raises:
        Exception: the one that was raised while it was prepared or answered, where nothing else is unusual about it.
    """
    given = _Look(view, reference, loaded)
    figures = given.all_figures()
    if reference.distance(figures) <= reference.limit or reference.deviation("values", figures["values"]) < -4:
        return _unless_failed(given, finding_of(reference, figures, []))
    looks: list[tuple[float, Correction, _Look | None]] = []
    for correction in possible_corrections(loaded, reference.scale):
        look = _Look(view, reference, correction.apply(loaded))
        if look.prepared is not None and not _same(look.prepared, given.prepared):
            looks.append((reference.distance(look.figures), correction, look if loaded.numel() < _KEPT else None))
    looks.sort(key=lambda entry: entry[0])
    tried = []
    best = reference.limit
    for at_least, correction, kept in looks:
        if at_least > best + EQUALLY_GOOD:
            break
        look = kept or _Look(view, reference, correction.apply(loaded))
        found = look.all_figures()
        if look.failure is None:
            tried.append((correction, found))
            best = min(best, reference.distance(found))
    return _unless_failed(given, finding_of(reference, figures, tried))


def measure_image(view: InputView, loaded: Tensor) -> tuple[dict[str, float], HomeScale]:
    """All figures of one of the source's own images, and its scale."""
    return _Look(view, None, loaded).all_figures(), home_scale(loaded)


class _Look:
    """An image's figures: at once those of its size and brightness, and on demand those of the answer."""

    def __init__(self, view: InputView, reference: InputReference | None, loaded: Tensor) -> None:
        self.view = view
        self.is_home = reference is None
        self.missing = {} if reference is None else dict.fromkeys(reference.figures, nan)
        self.figures = geometry_figures(loaded)
        self.prepared: Tensor | None = None
        self.failure: Exception | None = None
        if reference is not None and any(
            name.startswith("extent") and name in reference.figures and value - reference.figures[name][0] > _TOO_LARGE
            for name, value in self.figures.items()
        ):
            if loaded.ndim == 4 and getattr(loaded, "affine", None) is not None:  # resampled, it might not fit into memory
                return
        try:
            prepared = view.prepared(loaded)
            self.figures |= grey_figures(torch.as_tensor(prepared))
            self.prepared = prepared
        except Exception as error:
            self._keep(error)

    def all_figures(self) -> dict[str, float]:
        """With the answer's, and NaN for what home has and this image has not; without where it cannot be answered."""
        if self.prepared is None:
            return self.figures
        try:
            probabilities, head = self.view.answered(self.prepared)
            return self.missing | self.figures | answer_figures(self.prepared, probabilities, head)
        except Exception as error:
            self._keep(error)
            return self.figures

    def _keep(self, failure: Exception) -> None:
        """Note why the image cannot be prepared or answered; one of the source's own must be."""
        if self.is_home:
            raise failure
        self.failure = failure


def _unless_failed(given: _Look, finding: Finding) -> Finding:
    """A finding; where nothing is found that could explain why the image cannot be answered, what was raised."""
    if given.failure is not None and not finding.noticed:
        raise given.failure
    return finding


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Whether the network would see the same: such a correction changes nothing."""
    if other is None:
        return False
    a, b = torch.as_tensor(one).float(), torch.as_tensor(other).float()
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-3, atol=1e-3))
