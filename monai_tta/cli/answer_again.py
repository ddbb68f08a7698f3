"""One case of a run answered again, as its record says: for `monai-tta replay`, and for the pictures of `monai-tta show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    from monai_tta.pipeline.outcome import Outcome

# What the unadapted answer depends on besides the image: of the run's settings, and of the case.
_SETTINGS = ("bundle_hash", "weights_hash", "config_hash", "set_hash", "head", "main_output", "fix", "input_reference_hash")
_CASE = ("image_hash", "input_check")


@dataclass(frozen=True)
class RecordedCase:
    """A case on record, with what is needed to answer it again.

    Args:
        request: what the command on record asks for.
        image: of the case.
        name: of the case.
        document: what the ``records.json`` of the run holds.
        entry: of the case in it.
    """

    request: RunRequest
    image: Path
    name: str
    document: Mapping[str, Any]
    entry: Mapping[str, Any]

    def answer(self) -> dict[str, Any]:
        """Answer the case as the record says, into the folder of the request.

        Returns:
            what the ``records.json`` of this answer holds: one case, which may have failed.

        Raises:
            ValueError: for what a run refuses.
        """
        return _answered(self.request, self.image, self.name, self.entry)

    def answer_unadapted(self) -> dict[str, Any]:
        """Answer the case by the network as it is, into the folder of the request.

        Returns:
            its entry in the records of this answer.

        Raises:
            ValueError: for what a run refuses; for an answer that failed, or that is of another network or image than the
                record's.
        """
        document = _answered(_unadapted(self.request), self.image, self.name, self.entry)
        (anew,) = document["cases"]
        if anew["status"] == "failed":
            raise ValueError(f"the unadapted answer cannot be had: {anew['error']}")
        _check_same_source(self, document, anew)
        return dict(anew)


@contextmanager
def case_again(document: Mapping[str, Any], entry: Mapping[str, Any], left_out: LeftOut, masks: Path) -> Iterator[RecordedCase]:
    """A case on record with its image, for as long as this lasts.

    Args:
        document: what the ``records.json`` of the run holds.
        entry: of the case in it.
        left_out: what the record leaves out. Its folder is for what is answered again.
        masks: the folder of the run's masks.

    Raises:
        ValueError: for a command that cannot be asked again, and where the image is not among those that were given.
    """
    from monai_tta.evaluation.replay import chosen_image
    from monai_tta.pipeline.image_names import named_images

    request = recorded_request(document["run"]["command"], left_out)
    root = check_names(request)
    with as_images(left_out.images, request.cases, root, masks) as found:
        image, name = chosen_image(named_images(found, masks), entry)
        yield RecordedCase(request, image, name, document, entry)


def _answered(request: RunRequest, image: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    from monai_tta.cli.run_cases import take_turns
    from monai_tta.cli.run_source import load_to_run, run_source
    from monai_tta.evaluation.replay import use_threads
    from monai_tta.pipeline.records import Records
    from monai_tta.pipeline.run_log import RunLog

    use_threads(entry)
    run = run_source(request, load_to_run(request))
    log = RunLog(request.out, [image], run.settings, names=[name])
    records = Records(request.out, run.facts, 1)
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


def _check_same_source(case: RecordedCase, document: Mapping[str, Any], anew: Mapping[str, Any]) -> None:
    """Refuse an unadapted answer that is not that of the run's own network to the run's own image."""
    from monai_tta.evaluation.run_differences import differing

    was_fixed = case.request.checks.fix
    settings = [name for name in _SETTINGS if was_fixed or name != "input_reference_hash"]
    facts = [
        *differing(case.document["run"]["settings"], document["run"]["settings"], settings),
        *differing(case.entry, anew, [name for name in _CASE if was_fixed or name != "input_check"]),
    ]
    if facts:
        raise ValueError(
            f"the unadapted answer would not be that of the run: {', '.join(what for what, *_ in facts)} differ from the record. "
            "Give the bundle and the image that the run was given; `monai-tta replay` says more"
        )
