"""How fast a learned optimiser lowers MGG's loss: `python -m docs.mgg_plot DATA [NUMBER]` writes docs/mgg.svg.

DATA is the folder of the hippocampus data, NUMBER how many images are measured on, 9 unless told otherwise. Each is seen
through one of the bundle's three simulated scanners in turn. Rates are chosen on three other images. Minutes on one core.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from monai_tta import MGG, SGD, Adam, Learned
from monai_tta.cli.demo import BUNDLE
from monai_tta.core.label_free_metrics import hard_masks
from monai_tta.core.learned_optimizer_file import optimizer_file
from monai_tta.core.optimizers import OptimizerSpec
from monai_tta.evaluation.label_masks import label_on_image_grid, label_structures
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.preparation.window_pairs import paired_windows

FILE = str(optimizer_file(BUNDLE / "models" / "model.pt"))
STEPS = (0, 1, 2, 4, 8)
WINDOWS = 4
CHOSEN_ON = 3
GRIDS: dict[str, list[OptimizerSpec]] = {
    "Learned": [Learned(file=FILE, lr=rate) for rate in (3e-3, 1e-2, 3e-2, 1e-1)],
    "Adam": [Adam(lr=rate) for rate in (3e-3, 1e-2, 3e-2, 1e-1)],
    "SGD": [SGD(lr=rate, momentum=0.0) for rate in (1e-3, 1e-2, 1e-1, 1.0)],
}
PUBLISHED_LR = 1e-3


def cases(data: Path, first: int, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Adaptation windows ``(N, 1, *spatial)`` of images of the bundle's source_val, with their labels."""
    bundle = load_bundle(BUNDLE, device="cpu")
    protocol = protocol_of(BUNDLE)
    domains = [LabelledDomain(BUNDLE, data, domain, protocol) for domain in protocol.domains if domain.shift]
    for k in range(first, first + number):
        case = domains[k % len(domains)].case(k)
        image, label = case["image"].as_tensor()[None], label_on_image_grid(case)[None]
        cut = paired_windows(bundle.network, bundle.inferer, image, label, "softmax", WINDOWS)
        assert cut is not None
        yield cut


def course(network: torch.nn.Module, optimizer: OptimizerSpec, windows: Tensor, label: Tensor) -> dict[int, tuple[float, float]]:
    """The loss, and the mean Dice of the windows' structures, after each of `STEPS`."""
    method = MGG(optimizer=optimizer, source_file=FILE)
    shadow = method.begin(network, "softmax")
    found = {}
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            with torch.no_grad():
                found[step] = (float(method.loss(shadow, windows)), dice(shadow(windows), label))
        if step < STEPS[-1]:
            method.adapt(shadow, windows, method.loss)
    return found


def dice(logits: Tensor, label: Tensor) -> float:
    """Mean over the structures that are in the label, each taken over all windows."""
    masks = hard_masks(logits.softmax(1), "softmax").transpose(0, 1).flatten(1)
    truth = label_structures(label, logits.shape[1], "softmax").transpose(0, 1).flatten(1)
    there = truth.any(1)
    return float((2 * (masks & truth).sum(1) / (masks.sum(1) + truth.sum(1)))[there].mean())


def choose(network: torch.nn.Module, chosen_on: list[tuple[Tensor, Tensor]]) -> dict[str, OptimizerSpec]:
    """The published rate, and of each grid the rate with the lowest mean ratio of the losses after and before all steps."""
    chosen: dict[str, OptimizerSpec] = {
        f"Learned, {PUBLISHED_LR:g} as published": Learned(file=FILE, lr=PUBLISHED_LR),
        f"Adam, {PUBLISHED_LR:g}": Adam(lr=PUBLISHED_LR),
    }
    for name, grid in GRIDS.items():
        ratios = []
        for optimizer in grid:
            found = [course(network, optimizer, *case) for case in chosen_on]
            ratios.append(mean(one[STEPS[-1]][0] / one[0][0] for one in found))
            say(f"{name} {optimizer.lr:g}: {ratios[-1]:.3f}")
        best = grid[ratios.index(min(ratios))]
        if best not in chosen.values():
            chosen[f"{name}, {best.lr:g} chosen"] = best
    return chosen


def summarise(courses: list[dict[int, tuple[float, float]]]) -> list[dict[str, float]]:
    """Mean and standard deviation over images of the loss in shares of the first, and the change of Dice in points."""
    rows = []
    for step in STEPS:
        ratios = [one[step][0] / one[0][0] for one in courses]
        gains = [100 * (one[step][1] - one[0][1]) for one in courses]
        rows.append({"step": step, "loss": mean(ratios), "spread": stdev(ratios), "dice": mean(gains), "worst": min(gains)})
    return rows


def draw(found: dict[str, list[dict[str, float]]], file: Path) -> None:
    """One line per optimiser with its standard deviation over images."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "axes.unicode_minus": False, "svg.hashsalt": "mgg"}
    figure, axis = plt.subplots(figsize=(7, 4.5))
    for shift, (name, rows) in enumerate(found.items()):
        places = [row["step"] + 0.08 * (shift - len(found) / 2) for row in rows]
        axis.errorbar(places, [r["loss"] for r in rows], [r["spread"] for r in rows], fmt="o-", capsize=3, label=name)
    axis.set_xlabel("steps")
    axis.set_ylabel("loss, in shares of the loss before the first step")
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(data: Path, number: int) -> None:
    """Choose rates, measure, draw, and print the table of docs/mgg.md."""
    network = load_bundle(BUNDLE, device="cpu").network
    chosen = choose(network, list(cases(data, 0, CHOSEN_ON)))
    courses: dict[str, list[dict[int, tuple[float, float]]]] = {name: [] for name in chosen}
    for k, case in enumerate(cases(data, CHOSEN_ON, number)):
        for name, optimizer in chosen.items():
            courses[name].append(course(network, optimizer, *case))
        say(f"{k + 1}/{number} images")
    found = {name: summarise(each) for name, each in courses.items()}
    draw(found, Path(__file__).with_name("mgg.svg"))
    for name, rows in found.items():
        losses = " | ".join(f"{row['loss']:.3f} ± {row['spread']:.3f}" for row in rows[1:])
        say(f"| {name} | {losses} | {rows[-1]['dice']:+.1f} | {rows[-1]['worst']:+.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 9)
