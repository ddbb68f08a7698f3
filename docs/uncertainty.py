"""How well maps of uncertainty find wrong voxels, for docs/uncertainty.md: `python -m docs.uncertainty hippocampus_mri DATA`.

DATA is the folder with the bundle's labelled images. The cases are those of the first domain of the bundle's compare.yaml, as
they are and through its simulated scanners. Every figure is of the network's grid.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from monai_tta import AdaptiveInferer, Source, Statistics, ViewAverage, Views
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.objectives import Head, labels, probabilities
from monai_tta.core.record import reasons_on_record_alone
from monai_tta.core.uncertainty import entropy_of, mutual_information
from monai_tta.evaluation.label_masks import label_on_image_grid
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.night import head_of_bundle
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.quality.temperature import with_temperature

NEAR = 3  # voxels from the border of the mask: elsewhere most voxels are easy, and every figure looks good
Scores = dict[tuple[str, str, str], list[tuple[float, ...]]]


def maps_of(
    bundle: SourceBundle, head: Head, image: Tensor, views: Views, temperature: float
) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """Which answer, which map, the answer ``(1, K, *spatial)`` and the map ``(*spatial)``."""

    def ask(method: AdaptationMethod, over: Views | None) -> tuple[Tensor, Tensor | None]:
        inferer = AdaptiveInferer(method=method, inferer=bundle.inferer, head=head, uncertainty=over)
        answer = torch.as_tensor(inferer(image, bundle.network))
        if over is None:
            return answer, None
        (found,) = inferer.uncertainty_maps
        if found is None:
            raise SystemExit(inferer.cases[-1].uncertainty_note)
        return answer, found[0]

    def entropy(answer: Tensor) -> Tensor:
        return entropy_of(probabilities(answer.float(), head), head)[0, 0]

    def tempered(windows: Tensor) -> Tensor:
        poses = views.of(windows.shape[2:])
        answers = [pose.undo(probabilities(bundle.network(pose.apply(windows)), head)) for pose in poses]
        return mutual_information([(1 / len(poses), with_temperature(p, head, temperature)) for p in answers], head)

    for kind, method in (("unadapted", Source()), ("adapted", Statistics(statistics="volume", blend=0.3))):
        answer, found = ask(method, views)
        assert found is not None
        yield kind, "the map: trained mirrors", answer, found
        yield kind, "entropy of the answer", answer, entropy(answer)
    answer, everywhere = ask(Source(), Views())
    assert everywhere is not None
    yield "unadapted", "map over every mirror", answer, everywhere
    yield "unadapted", f"map at a temperature of {temperature:g}", answer, bundle.inferer(image, tempered)[0, 0]
    yield "unadapted", "entropy of the mean over trained mirrors", answer, entropy(ask(ViewAverage(views=views), None)[0])


def scores(found: Tensor, wrong: np.ndarray[Any, Any], near: np.ndarray[Any, Any]) -> tuple[float, ...]:
    """AUROC and AUPRC of a map for wrong voxels, in the whole image and near the border; NaN where all are right or all wrong."""
    value = found.numpy()
    figures: list[float] = []
    for where in (np.ones_like(near), near):
        for figure in (roc_auc_score, average_precision_score):
            some = 0 < wrong[where].mean() < 1 if where.any() else False
            figures.append(float(figure(wrong[where], value[where])) if some else float("nan"))
    return tuple(figures)


def near_border(inside: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Voxels at most `NEAR` voxels from the border of a mask; none where the mask is empty."""
    if not inside.any() or inside.all():
        return np.zeros_like(inside)
    near: np.ndarray[Any, Any] = np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside)) <= NEAR
    return near


def measure(
    bundle: SourceBundle, labelled: LabelledDomain, kind: str, most: int, views: Views, temperature: float, into: Scores
) -> None:
    """Score the maps of some cases of a domain, evenly spread."""
    head = head_of_bundle(bundle)
    assert head == "softmax", "what is wrong is told by one label for each voxel"
    for number in sorted({int(n) for n in np.linspace(0, len(labelled) - 1, min(most, len(labelled))).round()}):
        data = labelled.case(number)
        image, truth = data["image"][None].as_tensor(), label_on_image_grid(data)[0].numpy()
        with torch.no_grad(), reasons_on_record_alone():
            for answered, name, answer, found in maps_of(bundle, head, image, views, temperature):
                mask = labels(answer, head)[0, 0].numpy()
                wrong = mask != truth
                near = near_border(mask > 0)
                share = wrong[near].mean() if near.any() else float("nan")
                into[kind, answered, name].append((*scores(found, wrong, near), wrong.mean(), share))
        sys.stderr.write(f"{labelled.domain.label}, case {number + 1} of {len(labelled)}\n")


def table(found: Scores) -> list[str]:
    """A row for each kind of image, answer and map: means over cases, ± standard deviation."""
    lines = [
        "| images | answer | figure | n | AUROC | AUPRC | AUROC near the border | AUPRC near the border | wrong | wrong near |"
    ]
    lines.append("|" + "---|" * 10)
    for (kind, answered, name), rows in sorted(found.items(), key=lambda one: (one[0][0] != "source", one[0][1] != "unadapted")):
        columns = np.array(rows).T
        figures = [f"{np.nanmean(column):.3f} ± {np.nanstd(column, ddof=1):.3f}" for column in columns[:4]]
        figures += [f"{np.nanmean(column):.1%}" for column in columns[4:]]
        lines.append(f"| {kind} | {answered} | {name} | {len(rows)} | " + " | ".join(figures) + " |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=20, help="of the source; a third as many of each simulated scanner")
    parser.add_argument("--temperature", type=float, default=2.0, help="what `monai-tta calibrate` found")
    given = parser.parse_args()
    root = find_bundle(given.bundle)
    protocol = protocol_of(root)
    bundle = load_bundle(root, device="cpu")
    views = Views(mirrors="all", turns=False, axes=protocol.mirrors)
    found: Scores = defaultdict(list)
    source, *others = protocol.domains
    for domain in (source, *(other for other in others if other.shift)):
        labelled = LabelledDomain(root, given.data, domain, protocol)
        kind = "simulated scanners" if domain.shift else "source"
        most = -(-given.cases // 3) if domain.shift else given.cases
        measure(bundle, labelled, kind, most, views, given.temperature, found)
    sys.stdout.write("\n".join(table(found)) + "\n")


if __name__ == "__main__":
    main()
