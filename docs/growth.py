"""How seconds and memory grow: `python -m docs.growth FOLDER` writes growth.json and growth.svg, in minutes on two cores.

Each point is measured in a process of its own, on noise, with the hippocampus bundle's BatchNorm network and GraTa.
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from math import log
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression

import torch

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.cli.demo import BUNDLE
from monai_tta.compute.memory import memory_rise
from monai_tta.core.selection import Matching
from monai_tta.pipeline.bundle import load_bundle

START = {"size": 96, "cases": 1, "batch": 4, "layers": ""}
POINTS = {
    "volume (voxels)": [("size", n, n**3) for n in (64, 96, 128, 192, 256, 320)],
    "cases": [("cases", n, n) for n in (1, 2, 4, 8, 16)],
    "window batch": [("batch", n, n) for n in (1, 2, 4, 8)],
    "moving parameters": [("layers", layers, None) for layers in (r"adn\.N", r"bias$|adn\.N", r"model\.[02]", r".*")],
}


def measure(point):
    """Seconds and MiB of GraTa at one point, and how many parameters moved."""
    torch.set_num_threads(2)
    choices = START | point
    network = load_bundle(BUNDLE).network
    method = GraTa(select=Matching(choices["layers"])) if choices["layers"] else GraTa()
    inferer = AdaptiveInferer((32, 32, 32), choices["batch"], 0.25, method=method, head="softmax")
    images = [torch.rand(1, 1, *[choices["size"]] * 3) for _ in range(choices["cases"])]
    with torch.no_grad():
        inferer(images[0][..., :40, :40, :40], network)  # the first call loads libraries
        with memory_rise() as rise:
            began = time.perf_counter()
            for image in images:
                inferer(image, network)
            seconds = time.perf_counter() - began
    case = inferer.cases[-1]
    assert case.reason is None, case.reason
    return {"seconds": seconds, "memory": rise[0], "n_moving": case.n_moving}


def add_exponents(found):
    """Add the slopes of straight lines through the points, with both axes logarithmic."""
    for series in found.values():
        for what in ("seconds", "memory"):
            along = [log(row["along"]) for row in series["rows"]]
            measured = [log(max(row[what], 1e-3)) for row in series["rows"]]
            series[f"exponent of {what}"] = round(linear_regression(along, measured).slope, 2)


def draw(found, file):
    """Draw one column for each thing that grows: seconds above, memory below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "axes.unicode_minus": False}
    figure, axes = plt.subplots(2, len(found), figsize=(14, 6))
    for column, (name, series) in enumerate(found.items()):
        for axis, (what, unit) in zip(axes[:, column], (("seconds", "s"), ("memory", "MiB")), strict=True):
            measured = [row[what] for row in series["rows"]]
            axis.loglog([row["along"] for row in series["rows"]], measured, "o-")
            axis.set_ylim(min(measured) / 4, max(measured) * 4)  # on a narrow scale noise looks like growth
            axis.minorticks_off()
            axis.set_title(f"exponent {series[f'exponent of {what}']}")
            axis.set_xlabel(name)
            axis.set_ylabel(unit)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main(folder):
    """Measure all points, fit lines and draw them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, points in POINTS.items():
        found[name] = {"rows": []}
        for key, value, along in points:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(measure, {key: value}).result()
            found[name]["rows"].append(row | {"along": along or row["n_moving"]})
            sys.stdout.write(f"{name}: {json.dumps(row)}\n")
            sys.stdout.flush()
    add_exponents(found)
    (folder / "growth.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    draw(found, folder / "growth.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
