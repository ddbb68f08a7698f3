"""Measure a source's own inputs, so that `monai-tta check` notices those that are handed over wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.pipeline.bundle import SourceBundle, describe_error
from monai_tta.pipeline.case_file import label_of
from monai_tta.pipeline.check_input import measure_image
from monai_tta.pipeline.input_view import InputView
from monai_tta.quality.input_reference import LEAST_CASES, InputReference, reference_of_cases
from monai_tta.quality.possible_corrections import HomeScale

FiguresOrReason = tuple[tuple[dict[str, float], HomeScale] | None, str | None]


def images_of_domain(root: Path, dataset_dir: Path, domain: str) -> list[Path]:
    """The images of a domain of the bundle's ``configs/compare.yaml``, where each case is one file or folder.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the labelled data.
        domain: the label of one of the domains.

    Raises:
        BundleError: as `LabelledDomain` does.
    """
    (chosen,) = chosen_domains(protocol_of(root), [domain])
    items = LabelledDomain(root, dataset_dir, chosen).items
    return [Path(item["image"]) for item in items if isinstance(item.get("image"), str)]


def measure_inputs(bundle: SourceBundle, images: Sequence[Path]) -> Iterator[FiguresOrReason]:
    """Take the figures of the source's own images: of each image, and of the source's answer to it.

    Args:
        bundle: the source.
        images: files, or folders of DICOM series.

    Yields:
        for each image its figures and its scale, or why there are none.

    Raises:
        BundleError: for a bundle whose preprocessing does not begin with loading.
    """
    with InputView(bundle) as view:
        for image in images:
            try:
                yield measure_image(view, view.loaded(image)), None
            except Exception as error:  # one bad image must not end the run
                yield None, f"{label_of(image, '')}: {describe_error(error)}"


def input_reference(found: Sequence[FiguresOrReason]) -> tuple[InputReference | None, str]:
    """The reference of what was measured, or None, and in words what became of it.

    Args:
        found: what `measure_inputs` gave.
    """
    good = [entry for entry, _ in found if entry is not None]
    if len(good) < LEAST_CASES:
        return None, f"no figures for input checks: these need at least {LEAST_CASES} images, {len(good)} were measured"
    reference = reference_of_cases([figures for figures, _ in good], [scale for _, scale in good])
    return reference, f"figures for input checks of {reference.cases} images"
