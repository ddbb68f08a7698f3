"""One image to its masks in a folder of its own: no order of images, no journal, no final places."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case
from monai_tta.methods import Source
from monai_tta.pipeline.beside_masks import BesideMasks
from monai_tta.pipeline.bundle import SourceBundle
from monai_tta.pipeline.check_input import CheckedInput
from monai_tta.pipeline.convert_masks import MaskConverter, check_image_for_format
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.input_correction import add_corrections
from monai_tta.pipeline.load_image import LoadedImage, load_image
from monai_tta.pipeline.named_warnings import working_on
from monai_tta.pipeline.network_answer import check_no_nan, of_first_image
from monai_tta.pipeline.output_folder import is_disk_full
from monai_tta.pipeline.output_head import head_of, takes_main_only
from monai_tta.pipeline.preview import PreviewText, write_preview
from monai_tta.pipeline.private_text import without_paths
from monai_tta.pipeline.prompts import note_prompts, prompt_arguments
from monai_tta.pipeline.uncertainty_map import write_map
from monai_tta.pipeline.value_range import expected_range
from monai_tta.quality.corrections import Correction
from monai_tta.reporting.error_words import without_error_class


@dataclass(frozen=True)
class Segmented:
    """What came of one image, whose masks are not at their final places yet.

    Args:
        case: its record; None when it failed.
        content: a hash of what was in its file before it was read; "" where none was asked for.
        notes: what a person should know of how it was read, in words.
        error: why it failed; None when it did not.
        disk_full: whether that was a full or read-only disk.
        seconds: wall time from its turn on, in seconds.
        beside: what else was written, as places in the folder of its masks.
    """

    case: Case | None = None
    content: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    disk_full: bool = False
    seconds: float = 0.0
    beside: BesideMasks = BesideMasks()


class ImageSegmenter:
    """Segments one image at a time, and writes its masks into a folder.

    Args:
        bundle: the network and its transforms.
        method: how to adapt.
        partial: the folder.
        images: files, or folders of DICOM series.
        names: what the images are called, of which no two are the same.
        with_content: whether to hash each image's content.
        corrects: whether some image's input is corrected.
        preview: what is written on the previews; None for no previews.
        mask_format: in which masks are written, see `check_format`; None for what the bundle writes.
        options: keyword arguments of `AdaptiveInferer`. ``head="auto"`` is read from the bundle's postprocessing where it says.
    """

    def __init__(
        self,
        bundle: SourceBundle,
        method: AdaptationMethod,
        partial: Path,
        images: Sequence[Path],
        names: Sequence[str],
        *,
        with_content: bool,
        corrects: bool,
        preview: PreviewText | None = None,
        options: Mapping[str, Any],
        mask_format: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.partial = partial
        self.images = images
        self.names = names
        self.with_content = with_content
        self._mask_format = mask_format
        self._converter: MaskConverter | None = None
        if mask_format is not None:
            self._converter = MaskConverter.of_bundle(mask_format, Path(bundle.parser["bundle_root"]), bundle.metadata())
        self._preprocessing, self._postprocessing = bundle.transforms(partial)
        if corrects:
            add_corrections(self._preprocessing, self._postprocessing)
        chosen = dict(options)
        if chosen.get("head", "auto") == "auto":
            chosen["head"] = head_of(self._postprocessing)
        chosen.setdefault("main_only", takes_main_only(self._postprocessing))
        self._inferer = bundle.adapt_with(method, **chosen)
        self._preview = preview
        source_alone = {name: value for name, value in chosen.items() if name in ("head", "main_output", "main_only", "answers")}
        self._source_inferer = bundle.adapt_with(Source(), **source_alone) if preview else None
        self._expected = expected_range(getattr(bundle, "parser", None), self._preprocessing, bundle.network)

    def load(self, number: int, correction: Correction | None = None) -> LoadedImage:
        """Read an image and prepare it for the network."""
        image = self.images[number]
        working_on(image)
        loaded = load_image(
            image,
            self.names[number],
            self._preprocessing,
            self._expected,
            with_content=self.with_content,
            correction=correction,
        )
        check_image_for_format(image, self._mask_format)
        return loaded

    def segment(
        self,
        number: int,
        load: Callable[[], LoadedImage],
        checked: CheckedInput | None = None,
        next_loading: Sequence[Future[LoadedImage]] = (),
    ) -> Segmented:
        """Answer an image and write its masks. Whatever is wrong with it is in what is returned.

        Args:
            number: of the image.
            load: returns what `load` returns of it, or raises what that raises.
            checked: what a check of its input found, for its record and its preview; None where there was no check.
            next_loading: of the next image, which another thread loads.
        """
        began = time.monotonic()
        try:
            working_on(self.images[number])
            loaded = load()
            found = self._write_masks(loaded, next_loading, number, checked)
            if self._converter is not None and found.case is not None:
                beside = self._converter.convert(self.partial, self.images[number], found.case, found.beside)
                found = replace(found, beside=beside)
            return replace(found, content=loaded.content, notes=(*loaded.notes, *found.notes), seconds=time.monotonic() - began)
        except Exception as error:  # whatever is wrong with one image must not end the run
            return failed(error, time.monotonic() - began)

    def _write_masks(
        self, loaded: LoadedImage, next_loading: Sequence[Future[LoadedImage]], number: int, checked: CheckedInput | None
    ) -> Segmented:
        """Write the masks of an image, and what else is made beside them; its record, and where that is."""
        data = loaded.data
        asked = prompt_arguments(data, self.bundle.network, self.bundle.inferer)
        data["pred"] = self._answer(self._inferer, data, asked)
        note_prompts(data, asked)
        check_no_nan(data["pred"])
        wait(next_loading)  # to undo a transform while another thread applies it would mix up what is undone
        before = dict(data)
        self._postprocessing(data)
        answered = self._inferer.cases[-1]
        if checked is not None:
            answered = replace(answered, input_check=checked.record, input_checked=checked.finding is not None)
        case, written = self._with_map(answered, before, self.names[number])
        if self._preview is None:
            return Segmented(case, beside=BesideMasks(written))
        preview, notes = self._with_preview(case, written, before, asked, number)
        return Segmented(case, notes=notes, beside=BesideMasks(written, preview))

    def _answer(self, ask: Callable[..., Any], data: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
        """The answer to one image, by one of the inferers."""
        with torch.no_grad():
            answer = ask(data["image"][None].to(self.bundle.device), self.bundle.network, **asked)
        return of_first_image(answer)

    def _with_map(self, case: Case, data: Mapping[str, Any], name: str) -> tuple[Case, Path | None]:
        """Write the map of a case's uncertainty where there is one; the case, which says why there is none, and where it is."""
        if case.uncertainty is None:
            return case, None
        (found,) = self._inferer.uncertainty_maps
        try:
            file = write_map(found, case.uncertainty.largest, data, self._postprocessing, self.partial, name)
        except Exception as error:  # the mask is there, and is worth having without this
            if is_disk_full(error):
                raise
            return replace(case, uncertainty=None, uncertainty_note=describe_error(error)), None
        return case, file.relative_to(self.partial)

    def _with_preview(
        self, case: Case, written: Path | None, data: Mapping[str, Any], asked: Mapping[str, Any], number: int
    ) -> tuple[Path | None, tuple[str, ...]]:
        """Draw a case's preview: where it is, or why there is none. The unadapted answer is computed once more for it."""
        source, text = self._source_inferer, self._preview
        assert source is not None and text is not None

        def answer_unadapted() -> None:
            self._postprocessing({**data, "pred": self._answer(source, data, asked)})

        image, name = self.images[number], self.names[number]
        try:
            found = None if written is None else self.partial / written
            file = write_preview(image, name, case, self.partial, found, answer_unadapted, text)
        except Exception as error:  # the mask is there, and is worth having without this
            if is_disk_full(error):
                raise
            why = without_paths(describe_error(error), image, [self.partial], anonymous=True, name=name)
            return None, (f"there is no preview: {without_error_class(why)}",)
        return file.relative_to(self.partial), ()


def failed(error: Exception, seconds: float) -> Segmented:
    """What is said of an image that failed."""
    return Segmented(error=describe_error(error), disk_full=is_disk_full(error), seconds=seconds)
