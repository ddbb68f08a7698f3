"""Train the small nnU-Net of docs/nnunet.md by nnU-Net's own trainer: `python -m docs.nnunet_train OUT DATA` (half an hour).

DATA holds images, labels and split.csv of the hippocampus bundle's images. OUT gets nnU-Net's three folders. The dataset that
the network is trained on is made of source_train: fold 0 holds a fifth of it out. A second dataset is made of target. Needs
nnunetv2. Plans are nnU-Net's, with fewer features, smaller batches and a shorter training, for one CPU core.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from pathlib import Path

import torch

SOURCE, TARGET = "Dataset004_Hippocampus", "Dataset005_HippocampusTarget"
CONFIGURATION = "3d_fullres"
FEATURES = [8, 16, 32, 64]
BATCH = 2
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=50, help="of each epoch")
    given = parser.parse_args()
    # nnU-Net reads these when it is first imported.
    os.environ.update({name: str(given.out / name) for name in FOLDERS} | {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"})
    write_dataset(given.data, given.out / "nnUNet_raw" / SOURCE, "source_train", "Tr")
    write_dataset(given.data, given.out / "nnUNet_raw" / TARGET, "target", "Ts")
    plan()
    sys.stdout.write(f"{train(given.out, given.epochs, given.iterations)}\n")


def write_dataset(data: Path, folder: Path, split: str, part: str) -> None:
    """Copy the cases of one split into a dataset of nnUNet_raw, as its training (Tr) or test (Ts) cases."""
    with (data / "split.csv").open(encoding="utf-8", newline="") as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == split]
    for kind in ("images", "labels"):
        (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        ending = "_0000" if kind == "images" else ""
        for name in names:
            shutil.copy(data / kind / f"{name}.nii.gz", folder / f"{kind}{part}" / f"{name}{ending}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(names) if part == "Tr" else 0,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def plan() -> None:
    """Measure, plan and preprocess by nnU-Net, with a smaller network in the plan."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.paths import nnUNet_preprocessed

    number = int(SOURCE[7:10])
    extract_fingerprints([number], num_processes=1)
    plan_experiments([number])
    file = Path(nnUNet_preprocessed) / SOURCE / "nnUNetPlans.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    configuration = plans["configurations"][CONFIGURATION]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = FEATURES[: architecture["n_stages"]]
    configuration["batch_size"] = BATCH
    file.write_text(json.dumps(plans, indent=1), encoding="utf-8")
    preprocess([number], configurations=[CONFIGURATION], num_processes=[1])


def train(out: Path, epochs: int, iterations: int) -> Path:
    """Train fold 0, and let it answer the cases that it held out; returns the model's folder."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(0)
    os.environ["nnUNet_n_proc_DA"] = "0"  # augments in this process; planning refuses 0
    plans = json.loads((out / "nnUNet_preprocessed" / SOURCE / "nnUNetPlans.json").read_text(encoding="utf-8"))
    plans["continue_training"] = False  # as nnUNetv2_train says it
    dataset = json.loads((out / "nnUNet_raw" / SOURCE / "dataset.json").read_text(encoding="utf-8"))
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, dataset, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = epochs, iterations, 2
    trainer.run_training()
    trainer.perform_actual_validation()
    return Path(trainer.output_folder_base)


if __name__ == "__main__":
    main()
