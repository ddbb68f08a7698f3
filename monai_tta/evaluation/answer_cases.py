"""Answers labelled cases: loads each, hands its image to every contender, and postprocesses what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor

from monai_tta.compute.memory import memory_rise
from monai_tta.core.record import Case, reasons_on_record_alone
from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.labelled_data import LabelledDomain, labelled_cases
from monai_tta.evaluation.plan import ComparisonJob
from monai_tta.evaluation.protocol import Domain
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import SourceBundle, describe_error, load_bundle
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.nnunet_inferer import FoldsInferer
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.source_files import weights_file

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
    record, ``memory`` in MiB above what the process held before, and ``digest`` of the logits.
    """

    contender: Contender
    number: int
    data: dict[str, Any]
    case: Case
    memory: float | None
    digest: str


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
    given: dict[str, Any] = {"budget": job.budget or None, "seed": job.seed, "precision": job.plan.precision}
    weights = weights_file(job.plan.root, job.checkpoint)
    methods = [contender.method.for_checkpoint(weights) for contender in job.contenders]
    inferers = [
        bundle.adapt_with(method, head=head, main_only=True, **given | contender.choices)
        for method, contender in zip(methods, job.contenders, strict=True)
    ]
    results: list[T] = []
    failures: list[str] = []
    for number in job.numbers:
        where = f"{job.checkpoint}, {job.domain.label}, case {number}"
        try:
            data = domain.case(number, job.seed)
        except Exception as error:  # one file that cannot be read must not cost hours of other cases
            failures.append(f"{where}: {describe_error(error)}")
            continue
        for contender, inferer in zip(job.contenders, inferers, strict=True):
            try:
                with reasons_on_record_alone():
                    results.append(use(_answer(contender, number, domain, inferer, bundle, data)))
            except Exception as error:  # nor must one method that fails
                failures.append(f"{where}, {contender.label}: {describe_error(error)}")
    return results, failures


def _answer(
    contender: Contender,
    number: int,
    domain: LabelledDomain,
    inferer: AdaptiveInferer | FoldsInferer,
    bundle: SourceBundle,
    data: dict[str, Any],
) -> Answer:
    """Answer one case. The inferer is handed the image and nothing else."""
    image = torch.as_tensor(data["image"].as_tensor() if isinstance(data["image"], MetaTensor) else data["image"])[None]
    image = image.to(bundle.device)
    with torch.no_grad(), memory_rise(bundle.device) as memory:
        logits = inferer(image, bundle.network)[0].cpu()
    digest = sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()[:16]
    found = domain.postprocessing()(dict(data) | {"pred": logits.clone()})
    return Answer(contender, number, found, inferer.cases[-1], memory[0], digest)
