"""The evaluation protocol: methods by domains by checkpoints, per case and in a table. Labels never reach an adapter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.transforms import Compose

from monai_tta.bundle import BundleError, SourceBundle, load_bundle
from monai_tta.inferer import AdaptiveInferer
from monai_tta.protocol import Domain, Protocol, chosen_contenders, chosen_domains, protocol_of
from monai_tta.reading import head_of
from monai_tta.tables import Row
from monai_tta.transforms.shift import ScannerShiftd


def scoring(root: Path, dataset_dir: Path, domain: Domain) -> ConfigParser:
    """The bundle's evaluate config over its inference config, with the domain's keys set."""
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "inference.yaml"), str(root / "configs" / "evaluate.yaml")])
    parser.update({"bundle_root": str(root), "dataset_dir": str(dataset_dir)})
    parser.update({k: _filled(v, dataset_dir) for k, v in domain.keys.items()})
    return parser


def labelled(parser: ConfigParser, domain: Domain, protocol: Protocol) -> Iterator[dict[str, Any]]:
    """The domain's cases through the bundle's own preprocessing, the simulated scanner before its normalisation."""
    cases = parser.get_parsed_content("datalist")
    if not cases:
        raise BundleError(f"{parser['dataset_dir']} has no case for {domain.label!r} ({domain.keys})")
    steps = list(parser.get_parsed_content("preprocessing").transforms)
    place = next((i for i, t in enumerate(steps) if type(t).__name__ in protocol.before), len(steps))
    kind = locate(domain.shift) if domain.shift else None
    for number, case in enumerate(cases):
        scanner = [ScannerShiftd("image", kind(domain.severity, number))] if callable(kind) else []
        yield Compose([*steps[:place], *scanner, *steps[place:]])(case)


def _filled(value: Any, dataset_dir: Path) -> Any:
    """DATA in a protocol's text stands for the folder given on the command line."""
    return value.replace("DATA", str(dataset_dir)) if isinstance(value, str) else value


def dice(data: dict[str, Any]) -> tuple[float, ...]:
    """Dice of each foreground label by MONAI's metric, once the bundle's postprocessing is through; NaN for a label that is
    not in the image. Several one-hot channels begin with the background, which is left out; nested channels don't."""
    pred, label = (torch.as_tensor(data[k]) for k in ("pred", "label"))
    exclusive = len(pred) > 1 and bool((pred.sum(0) == 1).all())
    scores = DiceMetric(include_background=not exclusive)(pred[None], label[None])
    return tuple(float(s) for s in scores[0])


def score(
    root: Path, dataset_dir: Path, checkpoint: str, domain: Domain, only: Sequence[str] = (), choices: Any = None
) -> list[Row]:
    """Every contender (or those named, and Source) on every case of a domain, in the same order.

    ``choices`` are keyword arguments of `AdaptiveInferer` for all; a contender's own come before them.
    """
    torch.set_num_threads(1)
    bundle: SourceBundle = load_bundle(root, checkpoint)
    protocol = protocol_of(root)
    parser = scoring(root, dataset_dir, domain)
    post = parser.get_parsed_content("postprocessing")
    cases = list(labelled(parser, domain, protocol))
    rows = []
    for contender in chosen_contenders(protocol, only):
        chosen = dict(choices or {}) | contender.choices
        inferer = AdaptiveInferer(method=contender.method, inferer=bundle.inferer, head=head_of(post), **chosen)
        for number, data in enumerate(cases):
            with torch.no_grad():
                logits = inferer(data["image"][None].as_tensor(), bundle.network)
            scores, case = dice(post(dict(data) | {"pred": logits[0]})), inferer.cases[-1]
            rows.append(Row(checkpoint, domain.label, contender.label, number, scores, case.seconds, case.reason))
    return rows


def compare(
    root: Path,
    dataset_dir: Path,
    checkpoints: Iterable[str],
    only: Sequence[str] = (),
    places: Sequence[str] = (),
    workers: int | None = None,
    **choices: Any,
) -> Iterator[tuple[list[Row], str | None]]:
    """Run the whole protocol, or the contenders and domains named, one process per checkpoint and domain at a time.

    ``choices`` are keyword arguments of `AdaptiveInferer`, such as ``budget`` and ``precision``.

    Yields:
        the rows of a checkpoint and domain as it is done, in the order of the protocol; or none, and what went wrong.
    """
    todo = [(c, d) for c in checkpoints for d in chosen_domains(protocol_of(root), places)]
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(score, root, dataset_dir, c, d, only, choices) for c, d in todo]
        for (checkpoint, domain), job in zip(todo, jobs, strict=True):
            try:
                yield job.result(), None
            except Exception as error:  # the other domains' hours must not be lost
                yield [], f"{checkpoint}, {domain.label}: {type(error).__name__}: {error}"
