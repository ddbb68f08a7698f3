"""Segment many images with one bundle: a bad image is reported and the others continue, and a stopped run resumes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from monai_tta._version import __version__
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case
from monai_tta.pipeline.bundle import SourceBundle, source_files
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.output_folder import DiskFull, clear, is_disk_full, partial_folder, publish, write_atomically
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.run_log import RunLog, content_hash


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    Args:
        image: the file, or the folder of a DICOM series.
        masks: where its masks are; empty when it failed.
        case: its record; None when it failed.
        error: why it failed; None when it did not.
        earlier_run: whether an earlier run, which was stopped, segmented it.
    """

    image: Path
    masks: tuple[Path, ...] = ()
    case: Case | None = None
    error: str | None = None
    earlier_run: bool = False


def segment(
    bundle: SourceBundle,
    images: Iterable[Path],
    out: Path,
    method: AdaptationMethod,
    *,
    run_log: RunLog | None = None,
    **options: Any,
) -> Generator[Outcome, None, None]:
    """Segment images one by one; a bad one is reported and the others continue.

    Masks are written to a temporary folder and then moved into ``out``, so that no half-written mask is ever there.

    Args:
        bundle: the network and its transforms.
        images: files, or folders of DICOM series.
        out: the folder for masks.
        method: how to adapt.
        run_log: of these images and ``out``. What it knows to be done is not done again.
        options: keyword arguments of `AdaptiveInferer`. ``head="auto"`` is read from the bundle's postprocessing where it says.

    Raises:
        DiskFull: when the disk is full or read-only, which no further image could change.
        UnfinishedRun: when ``out`` holds an unfinished run that this one cannot resume.
    """
    images = list(images)
    with partial_folder(out) as partial:
        preprocessing, postprocessing = bundle.transforms(partial)
        if options.get("head", "auto") == "auto":
            options["head"] = head_of(postprocessing)
        inferer = bundle.adapt_with(method, **options)
        run_log = run_log or RunLog(out, images, {}, on_disk=False)
        run_log.open()
        taken = {mask for masks in run_log.masks.values() for mask in masks}
        for number in sorted(run_log.of_earlier_run):
            yield Outcome(images[number], run_log.masks[number], run_log.cases[number], earlier_run=True)
        for number, loading, next_loading in _load_ahead(preprocessing, images, run_log.order()):
            run_log.begin(number)
            try:
                data = loading.result()
                with torch.no_grad():
                    data["pred"] = inferer(data["image"][None].to(bundle.device), bundle.network)[0]
                check_no_nan(data["pred"])
                wait(next_loading)  # to undo a transform while another thread applies it would mix up what is undone
                postprocessing(data)
                masks = publish(partial, out, taken, images)
                case = replace(inferer.cases[-1], number=number)
                run_log.done(number, case, masks)
                outcome = Outcome(images[number], masks, case)
            except Exception as error:  # whatever is wrong with one image must not end the run
                if is_disk_full(error):
                    raise DiskFull(f"no room to write in {out}: {describe_error(error)}") from error
                outcome = Outcome(images[number], error=describe_error(error))
            clear(partial)
            yield outcome


def check_no_nan(answer: Any) -> None:
    """Check an answer ``(K, *spatial)`` for NaN, of which postprocessing would make an ordinary, mostly empty mask.

    Raises:
        ValueError: when a voxel's answer is NaN.
    """
    if isinstance(answer, torch.Tensor) and bool((is_nan := answer.isnan()).any()):
        share = float(is_nan.any(0).float().mean())
        raise ValueError(
            f"the network's answer is NaN in {share:.2%} of the image: the image holds NaN, infinity or numbers too large to "
            "normalise; replace them first"
        )


def _load_ahead(preprocessing: Any, images: list[Path], order: list[int]) -> Iterator[tuple[int, Future[Any], list[Future[Any]]]]:
    """Load each image while the one before it is segmented.

    Yields:
        an image's number, its loading, and the loading of the next one (none at the end).
    """

    def load(number: int) -> Any:
        image = images[number].absolute()  # readers take a leading ~ for somebody's home
        check_input_file(image)
        return preprocessing({"image": str(image)})

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
    configs, weights = source_files(root, checkpoint)
    given = {name: value if isinstance(value, str | int | float | None) else repr(value) for name, value in options.items()}
    return {
        "version": __version__,
        "bundle": "".join(content_hash(config) for config in configs),
        "weights": "".join(content_hash(file) for file in weights),
        "method": repr(method),
        "method file": [content_hash(file) for file in method.files],
        **given,
    }


def write_records(cases: Iterable[Case | None], path: Path) -> None:
    """Write records as a JSON list, ``null`` where an image failed, to a temporary file first and then in one move.

    Args:
        cases: one record for each image, None for one that failed.
        path: the file.
    """
    write_atomically(path, json.dumps([case and json.loads(case.to_json()) for case in cases], indent=1) + "\n")


def write_what_is_done(run_log: RunLog) -> None:
    """Write the records of a run that was stopped, where they can be written."""
    with suppress(OSError):
        write_records(run_log.records(), run_log.out / "records.json")
