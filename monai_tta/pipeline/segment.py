"""Segment many images with one bundle: a bad image is reported and the others continue, and a stopped run resumes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from monai_tta._version import __version__
from monai_tta.core.method import AdaptationMethod
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.check_input import CheckedInput
from monai_tta.pipeline.content_hashes import content_hash
from monai_tta.pipeline.image_names import image_names
from monai_tta.pipeline.image_segmenter import ImageSegmenter
from monai_tta.pipeline.load_image import LoadedImage
from monai_tta.pipeline.outcome import Outcome, Publisher, earlier_outcome
from monai_tta.pipeline.output_folder import partial_folder
from monai_tta.pipeline.preview import PreviewText
from monai_tta.pipeline.run_log import RunLog
from monai_tta.pipeline.source_files import description_files, weights_files


def segment(
    bundle: SourceBundle,
    images: Iterable[Path],
    out: Path,
    method: AdaptationMethod,
    *,
    names: Sequence[str] | None = None,
    run_log: RunLog | None = None,
    checked: Mapping[Path, CheckedInput] | None = None,
    preview: PreviewText | None = None,
    mask_format: str | None = None,
    **options: Any,
) -> Generator[Outcome, None, None]:
    """Segment images one by one; a bad one is reported and the others continue.

    Masks are written to a temporary folder and then moved into ``out``, so that no half-written mask is ever there.

    Args:
        bundle: the network and its transforms.
        images: files, or folders of DICOM series.
        out: the folder for masks.
        method: how to adapt.
        names: what the images are called, by `image_names`, of which no two are the same.
        run_log: of these images and ``out``. What it knows to be done, or another shard's, is not done.
        checked: what checks of the inputs found, by image; their corrections are applied, and undone on the masks.
        preview: what is written on previews, which show the images; None for no previews.
        mask_format: in which masks are written, see `check_format`; None for what the bundle writes.
        options: keyword arguments of `AdaptiveInferer`. ``head="auto"`` is read from the bundle's postprocessing where it says.

    Raises:
        DiskFull: when the disk is full or read-only, which no further image could change.
        UnfinishedRun: when ``out`` holds an unfinished run that this one cannot resume.
    """
    images = list(images)
    names = image_names(images, [image.parent for image in images], out) if names is None else list(names)
    checked = checked or {}
    corrections = {image: found.correction for image, found in checked.items() if found.correction is not None}
    log = run_log or RunLog(out, images, {}, names=names, on_disk=False)
    with partial_folder(out, log.shard) as partial:
        segmenter = ImageSegmenter(
            bundle,
            method,
            partial,
            images,
            names,
            with_content=log.on_disk,
            corrects=bool(corrections),
            preview=preview,
            options=options,
            mask_format=mask_format,
        )
        log.open()
        publisher = Publisher(log)
        for number in sorted(log.of_earlier_run):
            yield earlier_outcome(log, number)

        def load(number: int) -> LoadedImage:
            return segmenter.load(number, corrections.get(images[number]))

        for number, loading, next_loading in _load_ahead(load, log.order()):
            log.begin(number)
            segmented = segmenter.segment(number, loading.result, checked.get(images[number]), next_loading)
            yield publisher.finish(number, segmented, partial)


def _load_ahead(
    load: Callable[[int], LoadedImage], order: list[int]
) -> Iterator[tuple[int, Future[LoadedImage], list[Future[LoadedImage]]]]:
    """Load each image while the one before it is segmented.

    Yields:
        an image's number, its loading, and the loading of the next one (none at the end).
    """
    with ThreadPoolExecutor(1) as pool:
        next_loading = [pool.submit(load, number) for number in order[:1]]
        try:
            for number, following in zip(order, [*order[1:], None], strict=True):
                wait(next_loading)
                loading = next_loading[0]
                next_loading = [] if following is None else [pool.submit(load, following)]
                yield number, loading, next_loading
        finally:
            for future in next_loading:
                future.cancel()


def settings_of(root: Path, checkpoint: str, method: AdaptationMethod, options: dict[str, Any]) -> dict[str, Any]:
    """Everything that masks depend on besides their images, for a `RunLog`. Files are in it as hashes, without names."""
    given = {name: value if isinstance(value, str | int | float | None) else repr(value) for name, value in options.items()}
    return {
        "version": __version__,
        "bundle": "".join(content_hash(file) for file in description_files(root)),
        "weights": "".join(content_hash(file) for file in weights_files(root, checkpoint)),
        "method": repr(method),
        "method file": [content_hash(file) for file in method.files],
        **given,
    }
