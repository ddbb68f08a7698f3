"""Drawn CT of five scanners, and a bundle that is trained on one of them: `python -m docs.ct_phantoms OUT` (ten minutes).

OUT gets ``data``, which is DATA for `monai-tta compare`, and ``bundle``: the configs of the shipped bundle abdomen_ct, for two
organs. Drawings are not patients. They have exact labels, and anybody can draw the same ones.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import nibabel as nib
import numpy as np
import yaml

from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.transforms.phantoms import SCANNERS, ct_phantom

SIZE = (80, 80, 40)  # voxels of 3 mm: eight windows
TRAINING = 20  # phantoms that train the network
SHIFTS = ("SoftKernelShift", "LowDoseShift", "ContrastPhaseShift")
COUNTS = {"validation": 30, **{scanner: 8 for scanner in SCANNERS if scanner != "reference"}}
SPACING = 3.0


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    draw_all(options.out / "data")
    root = write_bundle(options.out / "bundle")
    train(root, options.out / "data", options.epochs)


def draw_all(folder: Path) -> None:
    """Draw each section's phantoms, each of another patient, and write the datalist that names them."""
    datalist = {"training": [draw(folder, "reference", seed) for seed in range(TRAINING)]}
    first = TRAINING
    for section, count in COUNTS.items():
        scanner = "reference" if section == "validation" else section
        datalist[section] = [draw(folder, scanner, seed) for seed in range(first, first + count)]
        first += count
    (folder / "datalist.json").write_text(json.dumps(datalist, indent=1), encoding="utf-8")


def draw(folder: Path, scanner: str, seed: int) -> dict[str, str]:
    """Write a phantom's image and label as NIfTI; returns its line of the datalist."""
    phantom = ct_phantom(SIZE, seed, scanner)
    line = {}
    for key, voxels, kind in (("image", phantom.image, np.int16), ("label", phantom.label, np.uint8)):
        name = f"{key}s/{scanner}_{seed:03d}.nii.gz"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels[0].numpy().round().astype(kind), np.diag([SPACING] * 3 + [1])), folder / name)
        line[key] = name
    return line


def write_bundle(root: Path) -> Path:
    """The configs of abdomen_ct, for the phantoms' two organs."""
    copytree(BUNDLES / "abdomen_ct" / "configs", root / "configs", dirs_exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    for name in ("inference", "evaluate", "train"):
        file = root / "configs" / f"{name}.yaml"
        text = file.read_text(encoding="utf-8")
        text = re.sub(r"(out_channels|to_onehot): 5", r"\1: 3", text)
        file.write_text(re.sub(r"^organs: .*$", "organs: [1, 2]", text, flags=re.MULTILINE), encoding="utf-8")
    validation = {"datalist_file": "DATA/datalist.json", "section": "validation"}
    domains = [{"label": section, "keys": {**validation, "section": section}} for section in COUNTS]
    for name in SHIFTS:
        shift = f"monai_tta.transforms.shift_ct.{name}"
        domains.append({"label": f"{name} 3", "keys": validation, "shift": shift, "severity": 3})
    protocol = {"style": "ct", "mirrors": [], "before": ["ScaleIntensityRanged"], "labels": ["liver", "spleen"]}
    text = yaml.safe_dump(protocol | {"tolerance": SPACING, "domains": domains}, sort_keys=False)
    (root / "configs" / "compare.yaml").write_text(text, encoding="utf-8")
    return root


def train(root: Path, data: Path, epochs: int) -> None:
    """Train the bundle's network by its own training config."""
    datalist = data.resolve() / "datalist.json"
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", root / "configs" / "train.yaml"]
    words += ["--bundle_root", root, "--dataset_dir", data.resolve(), "--datalist_file", datalist]
    words += ["--max_epochs", epochs, "--repeats", 1]
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
