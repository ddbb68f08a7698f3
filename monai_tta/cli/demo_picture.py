"""The demo's picture: two images, three ways each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIDE = "right"
PART_COLOURS = ("#E69F00", "#56B4E9")  # anterior, posterior; told apart by every kind of colour vision (Okabe and Ito 2008)
ROWS = {"template": "As it is", "poor scanner": "Poor scanner\n(simulated)"}
COLUMNS = {"unadapted": "Unadapted", "GraTa": "GraTa", "Careful": "Careful"}
CAPTION = "White line: the unadapted answer for the image as it is.\nAgreement: Dice with that answer. It is no ground truth."


def draw_demo(
    boxes: dict[tuple[str, str], Any],
    masks: dict[tuple[str, str, str], Any],
    labels: dict[tuple[str, str, str], str],
    left_alone: set[tuple[str, str, str]],
    path: Path,
) -> None:
    """Draw one row for each image and one column for each method.

    Args:
        boxes: voxels ``(X, Y, Z)`` by image and side.
        masks: label maps of the same shape by image, method and side: 1 anterior, 2 posterior.
        labels: what is written below each panel, by the same keys.
        left_alone: keys of the answers that a method left as they were; their panels say so.
        path: the PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    reference = masks["template", "unadapted", SIDE]
    cut = int(round(np.nonzero(reference)[0].mean()))
    figure, axes = plt.subplots(2, 3, figsize=(11.7, 8.6), layout="constrained")
    for row, image in enumerate(ROWS):
        for column, method in enumerate(COLUMNS):
            axis = axes[row, column]
            key = (image, method, SIDE)
            _draw_panel(axis, boxes[image, SIDE][cut], masks[key][cut], reference[cut])
            axis.set_xlabel(labels[key], fontsize=20)
            if key in left_alone:
                box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none"}
                axis.text(
                    0.97, 0.94, "left alone", transform=axis.transAxes, color="white", fontsize=22, ha="right", va="top", bbox=box
                )
            if row == 0:
                axis.set_title(COLUMNS[method], fontsize=26, fontweight="bold")
        axes[row, 0].set_ylabel(ROWS[image], fontsize=22)
    figure.supxlabel(CAPTION, fontsize=22, x=0.01, ha="left")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_panel(axis: Any, image: Any, mask: Any, reference: Any) -> None:
    """One slice ``(Y, Z)`` with its mask filled and the reference as a line."""
    from matplotlib.colors import ListedColormap

    low, high = np.percentile(image, (1, 99))
    axis.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=high)
    found = np.ma.masked_equal(mask, 0)
    axis.imshow(found.T, cmap=ListedColormap(PART_COLOURS), origin="lower", vmin=1, vmax=2, alpha=0.75, interpolation="nearest")
    axis.contour(reference.T > 0, [0.5], colors="white", linewidths=2.5)
    axis.set_xticks([])
    axis.set_yticks([])
