"""Cases of a run answered again, as its records say: for `monai-tta replay`, and for the pictures of `show` and `report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.cli.case_options import as_images
from monai_tta.cli.quality_options import QualityOptions
from monai_tta.cli.recorded_command import LeftOut, recorded_request
from monai_tta.cli.run_checks import check_names
from monai_tta.cli.run_facts import DEFAULTS, RunRequest
from monai_tta.cli.uncertainty_options import UncertaintyOptions

if TYPE_CHECKING:
    from monai_tta.cli.run_source import RunSource
    from monai_tta.pipeline.find_images import FoundImages
    from monai_tta.pipeline.outcome import Outcome

# What the unadapted answer depends on besides the image: of the run's settings, and of the case.
_SETTINGS = ("bundle_hash", "weights_hash", "config_hash", "set_hash", "head", "main_output", "fix", "input_reference_hash")
_CASE = ("image_hash", "input_check")


@dataclass(frozen=True)
class RecordedRun:
    """A run on record, with what is needed to answer its cases again.

    Args:
        request: what the command on record asks for.
        document: what the ``records.json`` of the run holds.
        found: the images that were given, with their names.
    """

    request: RunRequest
    document: Mapping[str, Any]
    found: FoundImages

    def answer(self, image: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a case as its record says, into the folder of the request.

        Args:
            image: of the case.
            name: of the case.
            entry: of the case on record.

        Returns:
            what the ``records.json`` of this answer holds: one case, which may have failed.

        Raises:
            ValueError: for what a run refuses.
        """
        return _answered(self.request, _source(self.request), {name: image}, entry)

    def answer_unadapted(
        self, images: Mapping[str, Path], entries: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any] | ValueError]:
        """Answer cases by the network as it is, into the folder of the request.

        Args:
            images: of the cases, by their names.
            entries: of the cases on record, in the same order; at least one.

        Returns:
            for each its entry in the records of this answer; or why it is not to be had: it failed, or it is of another image.

        Raises:
            ValueError: for what a run refuses, and for a network that is not the record's.
        """
        request = _unadapted(self.request)
        source = _source(request)
        _check_same(self.document["run"]["settings"], source.facts.settings, _names(_SETTINGS, self.request))
        document = _answered(request, source, images, entries[0])
        return [self._checked(entry, anew) for entry, anew in zip(entries, document["cases"], strict=True)]

    def _checked(self, entry: Mapping[str, Any], anew: dict[str, Any]) -> dict[str, Any] | ValueError:
        """An unadapted answer; or why it is none to the run's own image."""
        try:
            if anew["status"] == "failed":
                raise ValueError(f"the unadapted answer cannot be had: {anew['error']}")
            _check_same(entry, anew, _names(_CASE, self.request))
        except ValueError as error:
            return error
        return anew


@contextmanager
def run_again(document: Mapping[str, Any], left_out: LeftOut, masks: Path) -> Iterator[RecordedRun]:
    """A run on record with its images, for as long as this lasts.

    Args:
        document: what the ``records.json`` of the run holds.
        left_out: what the record leaves out. Its folder is for what is answered again.
        masks: the folder of the run's masks.

    Raises:
        ValueError: for a command that cannot be asked again.
    """
    from monai_tta.pipeline.image_names import named_images

    request = recorded_request(document["run"]["command"], left_out)
    root = check_names(request)
    with as_images(left_out.images, request.cases, root, masks) as found:
        yield RecordedRun(request, document, named_images(found, masks))


@dataclass(frozen=True)
class RecordedCase:
    """A case on record, with what is needed to answer it again.

    Args:
        run: on record.
        image: of the case.
        name: of the case.
        entry: of the case in the ``records.json`` of the run.
    """

    run: RecordedRun
    image: Path
    name: str
    entry: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where it is answered again."""
        return self.run.request.out

    def answer(self) -> dict[str, Any]:
        """Answer the case as `RecordedRun.answer` does."""
        return self.run.answer(self.image, self.name, self.entry)

    def answer_unadapted(self) -> dict[str, Any]:
        """Answer the case by the network as it is, into the folder.

        Returns:
            its entry in the records of this answer.

        Raises:
            ValueError: for what a run refuses; for an answer that failed, or that is of another network or image than the
                record's.
        """
        (found,) = self.run.answer_unadapted({self.name: self.image}, [self.entry])
        if isinstance(found, ValueError):
            raise found
        return found


@contextmanager
def case_again(document: Mapping[str, Any], entry: Mapping[str, Any], left_out: LeftOut, masks: Path) -> Iterator[RecordedCase]:
    """A case on record with its image, for as long as this lasts.

    Args:
        document: as for `run_again`.
        entry: of the case in it.
        left_out: as for `run_again`.
        masks: as for `run_again`.

    Raises:
        ValueError: for a command that cannot be asked again, and where the image is not among those that were given.
    """
    from monai_tta.evaluation.replay import chosen_image

    with run_again(document, left_out, masks) as run:
        image, name = chosen_image(run.found, entry)
        yield RecordedCase(run, image, name, entry)


def _source(request: RunRequest) -> RunSource:
    from monai_tta.cli.run_source import load_to_run, run_source

    return run_source(request, load_to_run(request))


def _answered(request: RunRequest, run: RunSource, images: Mapping[str, Path], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the records of a run over images say, with as many threads as a case on record had."""
    from monai_tta.cli.run_cases import take_turns
    from monai_tta.evaluation.replay import use_threads
    from monai_tta.pipeline.records import Records
    from monai_tta.pipeline.run_log import RunLog

    use_threads(entry)
    log = RunLog(request.out, images.values(), run.settings, names=list(images))
    records = Records(request.out, run.facts, len(images))
    outcomes: list[Outcome] = []
    take_turns(request, run, log, records, outcomes)
    return records.document(finished=True)


def _unadapted(request: RunRequest) -> RunRequest:
    """The same without adaptation, and without what has no part in the unadapted answer.

    Inputs are checked only where that corrects them.
    """
    kept = {name: request.options[name] for name in ("head", "main_output")}
    return replace(
        request,
        method="source",
        choices=[],
        guards=[],
        options={**DEFAULTS, **kept},
        checks=replace(request.checks, wanted=request.checks.fix),
        quality=QualityOptions(off=True),
        uncertainty=UncertaintyOptions(),
        preview=False,
    )


def _names(names: Sequence[str], request: RunRequest) -> list[str]:
    """What the unadapted answer depends on. Only a correction asks what inputs look like."""
    return [name for name in names if request.checks.fix or name not in ("input_reference_hash", "input_check")]


def _check_same(recorded: Mapping[str, Any], anew: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse an unadapted answer that is not that of the run's own network to the run's own image."""
    from monai_tta.evaluation.run_differences import differing

    facts = differing(recorded, anew, names)
    if facts:
        raise ValueError(
            f"the unadapted answer would not be that of the run: {', '.join(what for what, *_ in facts)} differ from the record. "
            "Give the bundle and the image that the run was given; `monai-tta replay` says more"
        )
