"""Segment many images with one bundle: a bad image is reported and the others continue, and a stopped run resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from monai_tta._version import __version__
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.case_file import label_of
from monai_tta.pipeline.check_input import CheckedInput
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.image_names import image_names
from monai_tta.pipeline.input_correction import add_corrections
from monai_tta.pipeline.load_image import LoadedImage, load_image
from monai_tta.pipeline.named_warnings import working_on
from monai_tta.pipeline.network_answer import check_no_nan, of_first_image
from monai_tta.pipeline.output_folder import DiskFull, clear, is_disk_full, older_masks, partial_folder, publish
from monai_tta.pipeline.output_head import head_of, takes_main_only
from monai_tta.pipeline.prompts import note_prompts, prompt_arguments
from monai_tta.pipeline.run_log import RunLog, content_hash
from monai_tta.pipeline.source_files import description_files, weights_files
from monai_tta.pipeline.uncertainty_map import OLDER_MAP, has_older_map, write_map
from monai_tta.pipeline.value_range import expected_range


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    Args:
        image: the file, or the folder of a DICOM series.
        masks: where its masks are; empty when it failed.
        case: its record; None when it failed.
        error: why it failed; None when it did not.
        earlier_run: whether an earlier run, which was stopped, segmented it.
        number: its place among the images, from 0.
        seconds: wall time from its turn on until it failed, in seconds; 0 where it did not, its record then knows.
        name: what the image is called: in its masks' names, in its record and in messages.
        notes: what a person should know of how it was read, in words.
        uncertainty_map: where the map of its uncertainty is; None where there is none.
    """

    image: Path
    masks: tuple[Path, ...] = ()
    case: Case | None = None
    error: str | None = None
    earlier_run: bool = False
    number: int = 0
    seconds: float = 0.0
    name: str = ""
    notes: tuple[str, ...] = ()
    uncertainty_map: Path | None = None

    @property
    def label(self) -> str:
        """What messages call the image, see `label_of`."""
        return label_of(self.image, self.name)


def segment(
    bundle: SourceBundle,
    images: Iterable[Path],
    out: Path,
    method: AdaptationMethod,
    *,
    names: Sequence[str] | None = None,
    run_log: RunLog | None = None,
    checked: Mapping[Path, CheckedInput] | None = None,
    **options: Any,
) -> Generator[Outcome, None, None]:
    """Segment images one by one; a bad one is reported and the others continue.

    Masks are written to a temporary folder and then moved into ``out``, so that no half-written mask is ever there.

    Args:
        bundle: the network and its transforms.
        images: files, or folders of DICOM series.
        out: the folder for masks.
        method: how to adapt.
        names: what the images are called, by `image_names`, of which no two are the same; None to make them here.
        run_log: of these images and ``out``. What it knows to be done is not done again.
        checked: what checks of the inputs found, by image; their corrections are applied, and undone on the masks.
        options: keyword arguments of `AdaptiveInferer`. ``head="auto"`` is read from the bundle's postprocessing where it says.

    Raises:
        DiskFull: when the disk is full or read-only, which no further image could change.
        UnfinishedRun: when ``out`` holds an unfinished run that this one cannot resume.
    """
    images = list(images)
    names = image_names(images, [image.parent for image in images], out) if names is None else list(names)
    checked = checked or {}
    corrections = {image: found.correction for image, found in checked.items() if found.correction is not None}
    with partial_folder(out) as partial:
        preprocessing, postprocessing = bundle.transforms(partial)
        if corrections:
            add_corrections(preprocessing, postprocessing)
        if options.get("head", "auto") == "auto":
            options["head"] = head_of(postprocessing)
        options.setdefault("main_only", takes_main_only(postprocessing))
        inferer = bundle.adapt_with(method, **options)
        run_log = run_log or RunLog(out, images, {}, names=names, on_disk=False)
        run_log.open()
        taken = {file for files in (*run_log.masks.values(), run_log.maps.values()) for file in files}
        for number in sorted(run_log.of_earlier_run):
            yield earlier_outcome(run_log, number)
        expected = expected_range(getattr(bundle, "parser", None), preprocessing, bundle.network)

        def load(number: int) -> LoadedImage:
            working_on(images[number])
            image = images[number]
            return load_image(
                image, names[number], preprocessing, expected, with_content=run_log.on_disk, correction=corrections.get(image)
            )

        work = _Work(bundle, inferer, postprocessing, partial, out, names, run_log, taken, checked)
        for number, loading, next_loading in _load_ahead(load, run_log.order()):
            run_log.begin(number)
            began = time.monotonic()
            try:
                working_on(images[number])
                outcome = work.segment(number, loading.result(), next_loading)
            except Exception as error:  # whatever is wrong with one image must not end the run
                if is_disk_full(error):
                    raise DiskFull(f"no room to write in {out}: {describe_error(error)}") from error
                outcome = work.failed(number, error, time.monotonic() - began)
            clear(partial)
            yield outcome


@dataclass(frozen=True, eq=False)
class _Work:
    """What every image of a run is segmented with."""

    bundle: SourceBundle
    inferer: Any
    postprocessing: Any
    partial: Path
    out: Path
    names: Sequence[str]
    run_log: RunLog
    taken: set[Path]
    checked: Mapping[Path, CheckedInput]

    def segment(self, number: int, loaded: LoadedImage, next_loading: list[Future[LoadedImage]]) -> Outcome:
        """Answer a loaded image, and write and publish its masks."""
        data = loaded.data
        image = self.run_log.images[number]
        asked = prompt_arguments(data, self.bundle.network, self.bundle.inferer)
        with torch.no_grad():
            answer = self.inferer(data["image"][None].to(self.bundle.device), self.bundle.network, **asked)
        data["pred"] = of_first_image(answer)
        note_prompts(data, asked)
        check_no_nan(data["pred"])
        wait(next_loading)  # to undo a transform while another thread applies it would mix up what is undone
        before = dict(data)
        self.postprocessing(data)
        found = self.checked.get(image)
        case = replace(self.inferer.cases[-1], number=number, input_check=None if found is None else found.record)
        case, written = self._with_map(case, before, self.names[number])
        files = publish(self.partial, self.out, self.taken, self.run_log.images)
        uncertainty_map = None if written is None else self.out / written.relative_to(self.partial)
        masks = tuple(file for file in files if file != uncertainty_map)
        older = written is None and has_older_map(masks[0].parent, self.names[number])
        notes = (*loaded.notes, OLDER_MAP) if older else loaded.notes
        self.run_log.done(number, case, masks, loaded.content, notes, uncertainty_map)
        return earlier_outcome(self.run_log, number)

    def _with_map(self, case: Case, data: Any, name: str) -> tuple[Case, Path | None]:
        """Write the map of a case's uncertainty where there is one; the case, which says why there is none, and the file."""
        if case.uncertainty is None:
            return case, None
        (found,) = self.inferer.uncertainty_maps
        try:
            return case, write_map(found, case.uncertainty.largest, data, self.postprocessing, self.partial, name)
        except Exception as error:  # the mask is there, and is worth having without this
            if is_disk_full(error):
                raise
            return replace(case, uncertainty=None, uncertainty_note=describe_error(error)), None

    def failed(self, number: int, error: Exception, seconds: float) -> Outcome:
        """What is said of an image that failed."""
        name = self.names[number]
        words = describe_error(error) + _words_on(older_masks(self.out, name, self.names, self.taken), self.out)
        return Outcome(self.run_log.images[number], error=words, number=number, seconds=seconds, name=name)


def earlier_outcome(run_log: RunLog, number: int) -> Outcome:
    """What came of an image that the log knows to be done."""
    return Outcome(
        run_log.images[number],
        run_log.masks[number],
        run_log.cases[number],
        earlier_run=number in run_log.of_earlier_run,
        number=number,
        name=run_log.names[number],
        notes=run_log.notes[number],
        uncertainty_map=run_log.maps.get(number),
    )


def _words_on(older: Sequence[Path], out: Path) -> str:
    """A warning of masks that pass for those of an image that failed."""
    names = ", ".join(str(mask.relative_to(out)) for mask in older[:3])
    return f"; the mask of an earlier run is still there: {names}" if older else ""


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
