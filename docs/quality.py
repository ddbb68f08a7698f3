"""Predicted against true Dice and surface, for docs/quality.md: `python -m docs.quality hippocampus_mri DATA --quality FILE`.

FILE is what `monai-tta calibrate BUNDLE --dataset-dir DATA --out trial.npz` wrote as trial_quality.npz. DATA is the folder with
the bundle's labelled images. The cases are the target's, as they are and through the simulated scanners of the bundle's
compare.yaml. No image of them had a part in the calibration.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_tta import AdaptiveInferer, Source, Statistics
from monai_tta.core.label_free_metrics import hard_masks
from monai_tta.core.objectives import Head, probabilities
from monai_tta.core.record import Case, StructureQuality, reasons_on_record_alone
from monai_tta.evaluation.label_masks import label_on_image_grid, label_structures
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, protocol_of
from monai_tta.evaluation.surface_dice import structure_nsd
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.night import head_of_bundle
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.pipeline.triage import LOOK, REFUSE, USE, triage
from monai_tta.preparation.examples import structure_dice
from monai_tta.quality.quality_predictor import FIGURES, QualityPredictor


@dataclass(frozen=True)
class Measured:
    """One answer to one case: what was said of it, and how good it was.

    Args:
        domain: of the case.
        adapted: which answer.
        said: what was predicted, for each structure.
        true: by figure, the true one of each structure, of the whole image in the network's grid.
        case: the record.
    """

    domain: str
    adapted: bool
    said: tuple[StructureQuality, ...]
    true: dict[str, tuple[float, ...]]
    case: Case


def true_figures(logits: Any, label: torch.Tensor, head: Head) -> dict[str, tuple[float, ...]]:
    """Figures of each structure of an answer ``(1, K, *spatial)``; of one that is not in the label, 1 for nothing and else 0."""
    masks = hard_masks(probabilities(torch.as_tensor(logits), head), head)
    truth = label_structures(label[None], logits.shape[1], head)
    flat = truth[0].flatten(1).numpy()
    dice = structure_dice(masks[0].flatten(1).numpy(), flat, flat.sum(1))
    return {"dice": tuple(dice.tolist()), "nsd": tuple(structure_nsd(masks, truth).tolist())}


def measure(bundle: SourceBundle, labelled: LabelledDomain, label: str, most: int, predictor: QualityPredictor) -> list[Measured]:
    """The unadapted and the adapted answer to some cases of a domain."""
    head = head_of_bundle(bundle)
    assert head != "auto"
    method = Statistics(statistics="volume", blend=0.3)
    careful = AdaptiveInferer(method=method, inferer=bundle.inferer, head=head, quality=predictor)
    plain = AdaptiveInferer(method=Source(), inferer=bundle.inferer, head=head)
    found = []
    numbers = np.linspace(0, len(labelled) - 1, min(most, len(labelled))).round().astype(int)
    for number in sorted({int(n) for n in numbers}):
        data = labelled.case(number)
        image = data["image"][None].as_tensor()
        truth = label_on_image_grid(data)
        with torch.no_grad(), reasons_on_record_alone():
            adapted = careful(image, bundle.network)
            unadapted = plain(image, bundle.network)
        case = careful.cases[-1]
        if case.quality is None or case.quality_unadapted is None:
            raise SystemExit(f"case {number} of {label}: {case.quality_note or case.reason}")
        found.append(Measured(label, False, case.quality_unadapted, true_figures(unadapted, truth, head), case))
        found.append(Measured(label, True, case.quality, true_figures(adapted, truth, head), case))
        sys.stderr.write(f"{label}, case {number + 1} of {len(labelled)}\n")
    return found


def table(found: list[Measured], predictor: QualityPredictor, names: list[str], figure: str) -> list[str]:
    """A row for each domain, structure and answer, on one figure."""
    lines = [
        "| domain | structure | answer | n | true | expected | off by | off by, always the mean | inside |",
        "|" + "---|" * 9,
    ]
    for domain in [*dict.fromkeys(one.domain for one in found), "all"]:
        for k, name in enumerate(names):
            for adapted in (False, True):
                chosen = [one for one in found if domain in (one.domain, "all") and one.adapted == adapted]
                lines.append(_row(domain, name, chosen, k, figure, predictor.about["structures"][k][figure]["mean"]))
    return lines


def _row(domain: str, name: str, chosen: list[Measured], k: int, figure: str, mean: float) -> str:
    true = np.array([one.true[figure][k] for one in chosen])
    fields = ("dice", "low", "high") if figure == "dice" else ("nsd", "nsd_low", "nsd_high")
    said, low, high = np.array([[getattr(one.said[k], field) for field in fields] for one in chosen]).T
    inside = np.mean((low <= true) & (true <= high))
    off = np.abs(true - said)
    figures = [f"{true.mean():.2f} ± {true.std(ddof=1):.2f}", f"{said.mean():.2f}", f"{off.mean():.3f} ± {off.std(ddof=1):.3f}"]
    figures += [f"{np.abs(true - mean).mean():.3f}", f"{inside:.0%}"]
    kind = "adapted" if chosen[0].adapted else "unadapted"
    return f"| {domain} | {name} | {kind} | {len(chosen)} | " + " | ".join(figures) + " |"


def triage_lines(found: list[Measured], predictor: QualityPredictor, accept: float) -> list[str]:
    """What the triage of `monai-tta run --accept` says of these masks, and how many of them are bad indeed."""
    lines = [f"| answer | sorted as (wanted Dice {accept:g}) | masks | bad indeed | expected at most |", "|---|---|---|---|---|"]
    for adapted in (False, True):
        chosen = [one for one in found if one.adapted == adapted]
        cases = [
            (str(number), replace(one.case, quality=one.said, reason=None if adapted else "unadapted"))
            for number, one in enumerate(chosen)
        ]
        judged = triage(cases, predictor, accept)
        for what in (USE, LOOK, REFUSE):
            these = [one for one in judged if one.what == what]
            bad = sum(min(chosen[int(one.label)].true["dice"]) < accept for one in these)
            chance = f"{np.mean([one.chance for one in these]):.0%}" if these else ""
            lines.append(f"| {'adapted' if adapted else 'unadapted'} | {what} | {len(these)} | {bad} | {chance} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=40, help="of each domain, evenly spread")
    parser.add_argument("--target", default="target", help="the domain of the bundle's compare.yaml that the cases are of")
    parser.add_argument("--accept", type=float, default=0.8)
    given = parser.parse_args()
    root = find_bundle(given.bundle)
    predictor = QualityPredictor.load(given.quality)
    bundle = load_bundle(root)
    protocol = protocol_of(root)
    target = next(domain for domain in protocol.domains if domain.label == given.target)
    found: list[Measured] = []
    for domain in (target, *(domain for domain in protocol.domains if domain.shift)):
        on_target = domain if domain is target else Domain(domain.label, target.keys, domain.shift, domain.severity)
        labelled = LabelledDomain(root, given.data, on_target, protocol)
        found += measure(bundle, labelled, domain.label, given.cases, predictor)
    sys.stdout.write(json.dumps(predictor.about, indent=1) + "\n")
    for figure in FIGURES:
        sys.stdout.write(f"{figure}\n\n" + "\n".join(table(found, predictor, list(protocol.labels), figure)) + "\n\n")
    sys.stdout.write("\n".join(triage_lines(found, predictor, given.accept)) + "\n")


if __name__ == "__main__":
    main()
