"""One thread: the figures of tests must not depend on the machine. And small inputs that several files share."""

import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_tta.cli.demo import BUNDLE

torch.set_num_threads(1)


@pytest.fixture
def phantom_set(tmp_path):
    """A labelled set in the hippocampus bundle's layout: blobs in noise, two cases per split."""
    root = tmp_path / "phantoms"
    rng = np.random.default_rng(0)
    rows = ["id,group,split"]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(["source_train"] * 2 + ["source_val"] * 2 + ["target"] * 2):
        label = np.zeros((36, 34, 33), np.uint8)
        label[10:20, 10:24, 12:22], label[20:28, 10:24, 12:22] = 1, 2
        image = (rng.normal(0, 0.2, label.shape) + label).astype(np.float32)
        for folder, data in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(data, np.diag([1.0, 1, 1, 1])), root / folder / f"c{number}.nii.gz")
        rows.append(f"c{number},{'A' if number < 4 else 'B'},{split}")
    (root / "split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def bundle_copy(tmp_path):
    """The hippocampus bundle where a run may write checkpoints."""
    root = tmp_path / "bundle"
    shutil.copytree(BUNDLE, root)
    return root
