"""Answers labelled cases: loads each, hands its image to every contender, and postprocesses what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from monai.data import MetaTensor

from monai_tta.compute.count_passes import Passes, count_passes
from monai_tta.compute.memory import memory_rise
from monai_tta.core.no_learning import NoLearning
from monai_tta.core.objectives import Head
from monai_tta.core.record import Case, reasons_on_record_alone
from monai_tta.evaluation.case_signals import SignalMeasure
from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.jobs import ComparisonJob
from monai_tta.evaluation.labelled_data import LabelledDomain, labelled_cases
from monai_tta.evaluation.protocol import Domain, protocol_of
from monai_tta.inference.network import unwrap
from monai_tta.pipeline.bundle import SourceBundle, describe_error, load_bundle
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.source_files import weights_file
from monai_tta.quality.predictor_files import quality_file

T = TypeVar("T")


@lru_cache(maxsize=1)
def _bundle(root: Path, checkpoint: str, device: str | None, changes: ConfigChanges) -> SourceBundle:
    return load_bundle(root, checkpoint, device, changes, ("evaluate",))


def labelled_domain(job: ComparisonJob) -> LabelledDomain:
    """The cases of a job's domain; read once for jobs that follow each other on one domain.

    Raises:
        BundleError: when they cannot be read.
    """
    return _labelled(job.plan.root, job.plan.dataset_dir, json.dumps(asdict(job.domain)), job.plan.changes)


@lru_cache(maxsize=1)
def _labelled(root: Path, dataset_dir: Path, domain: str, changes: ConfigChanges) -> LabelledDomain:
    return labelled_cases(root, dataset_dir, Domain(**json.loads(domain)), changes)


@dataclass(frozen=True)
class Answer:
    """One contender's answer to one case.

    ``data`` is the case once the bundle's postprocessing is through: "image", "label" and "pred". ``case`` is the answer's
    record, ``memory`` in MiB above what the process held before, and ``digest`` of the logits. ``signals`` are those that the
    plan asks for; where an unadapted answer stands in for an adapted one, those of windows are left out. ``passes`` are those of
    the network and its copies; None where signals were measured, which takes passes of its own.
    """

    contender: Contender
    number: int
    data: dict[str, Any]
    case: Case
    memory: float | None
    digest: str
    signals: dict[str, float] = field(default_factory=dict)
    passes: Passes | None = None


def use_answers(job: ComparisonJob, use: Callable[[Answer], T]) -> tuple[list[T], list[str]]:
    """Let the contenders of a job answer its cases, in order, and use each answer as it comes.

    Args:
        job: the contenders and the cases.
        use: a function of an answer; what it raises counts as a failure of that answer.

    Returns:
        what ``use`` returned, and a line for each case or answer that failed.

    Raises:
        BundleError: when the bundle or the domain cannot be read at all.
    """
    bundle = _bundle(job.plan.root, job.checkpoint, job.plan.device, job.plan.changes)
    domain = labelled_domain(job)
    head = head_of(domain.postprocessing())
    contestants = [_Contestant(job, contender, bundle, head) for contender in job.contenders]
    results: list[T] = []
    failures: list[str] = []
    for number in job.numbers:
        where = f"{job.checkpoint}, {job.domain.label}, case {number}"
        try:
            data = domain.case(number, job.seed)
        except Exception as error:  # one file that cannot be read must not cost hours of other cases
            failures.append(f"{where}: {describe_error(error)}")
            continue
        for contestant in contestants:
            try:
                with reasons_on_record_alone():
                    results.append(use(contestant.answer(number, domain, data)))
            except Exception as error:  # nor must one method that fails
                failures.append(f"{where}, {contestant.contender.label}: {describe_error(error)}")
    return results, failures


class _Contestant:
    """One contender at its work: hands it images and nothing else, and measures what the plan asks for."""

    def __init__(self, job: ComparisonJob, contender: Contender, bundle: SourceBundle, head: Head | Literal["auto"]) -> None:
        self.contender = contender
        self.bundle = bundle
        weights = weights_file(job.plan.root, job.checkpoint)
        method = contender.method.for_checkpoint(weights)
        given: dict[str, Any] = {"budget": job.budget or None, "seed": job.seed, "precision": job.plan.precision}
        given |= contender.choices
        self.measure: SignalMeasure | None = None
        if job.plan.signals:
            self.measure = SignalMeasure(bundle.network, weights, protocol_of(job.plan.root).mirrors, not method.adapts)
            given["guard"] = self.measure.windows
            file = quality_file(weights)
            given["quality"] = file if file.is_file() else None
        build = partial(bundle.adapt_with, head=head, main_only=True, **given)
        self.inferer = build(method=method)
        # A method that adapts nothing has no evidence for a guard. One that learns nothing gives the same answer, and has.
        self.looks_again = None if self.measure is None or method.adapts else build(method=NoLearning())

    def answer(self, number: int, domain: LabelledDomain, data: dict[str, Any]) -> Answer:
        """Answer one case. The inferer is handed the image and nothing else."""
        image = torch.as_tensor(data["image"].as_tensor() if isinstance(data["image"], MetaTensor) else data["image"])[None]
        image = image.to(self.bundle.device)
        counting = count_passes(unwrap(self.bundle.network))
        with torch.no_grad(), memory_rise(self.bundle.device) as memory, counting as passes:
            logits = self.inferer(image, self.bundle.network)[0].cpu()
        case = self.inferer.cases[-1]
        signals: dict[str, float] = {}
        if self.measure is not None:
            if self.looks_again is not None:
                with torch.no_grad():
                    self.looks_again(image, self.bundle.network)
            signals, seconds = self.measure.signals_of(logits[None], case, data["image"], partial(domain.label_of_image, data))
            case = replace(case, seconds=case.seconds - (0.0 if self.looks_again else seconds))
        digest = sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()[:16]
        found = domain.postprocessing()(dict(data) | {"pred": logits.clone()})
        if self.measure is not None:  # measuring takes memory and passes of its own
            return Answer(self.contender, number, found, case, None, digest, signals)
        return Answer(self.contender, number, found, case, memory[0], digest, signals, passes)
