"""Score methods on a small nnU-Net for the table of docs/nnunet.md: `python -m docs.nnunet_scores MODEL_FOLDER DATA [CASES]`.

DATA holds images, labels and split.csv of the hippocampus bundle's images. The nnU-Net was trained on source_train. Each
mask is exported by nnU-Net and scored in the image's own voxels.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from monai_tta import Adam, GraTa, Source, Tent, ViewAverage
from monai_tta.core.record import reasons_on_record_alone
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.transforms.shift_mri import BiasFieldShift, BlurNoiseShift, ContrastShift

METHODS = {
    "no adaptation": Source(),
    "GraTa": GraTa(),
    "Tent": Tent(),
    "GraTa, lr 0.01": GraTa(optimizer=Adam(lr=1e-2)),
    "Tent, lr 0.01": Tent(optimizer=Adam(lr=1e-2)),
    "ViewAverage": ViewAverage(),
}
DOMAINS: dict[str, tuple[str, Any]] = {
    "source": ("source_val", None),
    "target": ("target", None),
    "bias field 3": ("source_val", lambda seed: BiasFieldShift(3, seed)),
    "contrast 4": ("source_val", lambda seed: ContrastShift(4, seed)),
    "blur and noise 3": ("source_val", lambda seed: BlurNoiseShift(3, seed)),
}


def prepared(source: SourceBundle, preprocessing: Any, image: Path, shift: Any) -> dict[str, Any]:
    """A case as the network sees it, maybe through a simulated scanner."""
    load, prepare = preprocessing.transforms
    data: dict[str, Any] = load({"image": str(image)})
    if shift is not None:
        data["image"].copy_(torch.as_tensor(shift(data["image"].as_tensor())))
    return dict(prepare(data))


def dice(mask: Path, label: Path) -> float:
    """The mean over the label's structures of the Dice of a mask."""
    found, truth = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (mask, label))
    scores = [2 * np.sum((found == k) & (truth == k)) / np.sum((found == k).astype(int) + (truth == k)) for k in (1, 2)]
    return float(np.mean(scores))


def main() -> None:
    """Print a row per method: the mean Dice of each domain, and in how many cases it lost more than a point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("cases", type=int, nargs="?", default=5)
    given = parser.parse_args()
    source = load_bundle(given.model)
    with (given.data / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[str, list[float]]] = {name: {} for name in METHODS}
    with tempfile.TemporaryDirectory() as folder, reasons_on_record_alone(), torch.no_grad():
        preprocessing, export = source.transforms(Path(folder))
        inferers = {name: source.adapt_with(method, head="softmax") for name, method in METHODS.items()}
        for domain, (split, make) in DOMAINS.items():
            names = [row["id"] for row in rows if row["split"] == split][: given.cases]
            for number, name in enumerate(names):
                shift = None if make is None else make(number)
                data = prepared(source, preprocessing, given.data / "images" / f"{name}.nii.gz", shift)
                for method, inferer in inferers.items():
                    export({**data, "pred": inferer(data["image"][None], source.network)[0]})
                    score = dice(Path(folder) / f"{name}_seg.nii.gz", given.data / "labels" / f"{name}.nii.gz")
                    found[method].setdefault(domain, []).append(score)
            for method in METHODS:
                sys.stderr.write(f"{domain}, {method}: {np.mean(found[method][domain]):.3f}\n")
    plain = np.concatenate([*found["no adaptation"].values()])
    sys.stdout.write(f"| method | {' | '.join(DOMAINS)} | lost over a point |\n|---|{'---|' * len(DOMAINS)}---|\n")
    for method, by_domain in found.items():
        lost = int(np.sum(np.concatenate([*by_domain.values()]) < plain - 0.01))
        cells = " | ".join(f"{np.mean(by_domain[domain]):.3f}".lstrip("0") for domain in DOMAINS)
        sys.stdout.write(f"| {method} | {cells} | {lost} of {len(plain)} |\n")


if __name__ == "__main__":
    main()
