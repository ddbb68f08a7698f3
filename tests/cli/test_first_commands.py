"""The page of first commands: each is typed as it stands there, in a folder with such images."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_tta.transforms.phantoms import fundus_phantom

PAGE = Path(__file__).parents[2] / "docs" / "first-commands.md"
pytestmark = pytest.mark.slow


def volume(file, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(100, 20, (35, 36, 34)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), file)


def typed(title, folder):
    """Type the commands under a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    (commands,) = re.findall(r"^```bash\n(.*?)^```", section, re.S | re.M)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_one_photograph(tmp_path):
    pixels = (fundus_phantom((120, 140)).image * 255).byte().permute(2, 1, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    typed("One photograph", tmp_path)
    mask = np.asarray(Image.open(tmp_path / "vessels" / "photograph_seg.png"))
    assert mask.shape == pixels.shape[:2] and set(np.unique(mask)) <= {0, 255}
    assert (tmp_path / "vessels" / "records.json").is_file()


def test_one_mri(tmp_path):
    volume(tmp_path / "head" / "box.nii.gz")
    said = typed("One MRI", tmp_path)
    assert "expected Dice" in said and "unlike" in said
    assert sorted(file.name for file in (tmp_path / "hippocampus").iterdir()) == [
        *("box_seg.nii.gz", "box_seg_preview.png", "records.csv", "records.json"),
    ]


def test_a_ct_as_a_dicom_series(tmp_path):
    pytest.importorskip("highdicom")
    from tests.pipeline.pydicom_series import write_ct  # which needs pydicom

    write_ct(tmp_path / "series")
    typed("A CT as a DICOM series", tmp_path)
    assert [file.suffix for file in sorted((tmp_path / "organs").iterdir())] == [".csv", ".json", ".dcm"]


def test_a_folder_of_twenty_files_of_which_three_are_broken(tmp_path):
    for number in range(14):
        volume(tmp_path / "scans" / f"p{number:02d}" / "t1.nii.gz", number)
    (tmp_path / "scans" / "p03" / "t1.nii.gz").write_bytes(b"damaged")
    (tmp_path / "scans" / "p05" / "t1.nii.gz").write_bytes((tmp_path / "scans" / "p06" / "t1.nii.gz").read_bytes()[:2000])
    nib.save(nib.Nifti1Image(np.full((35, 36, 34), np.nan, np.float32), np.eye(4)), tmp_path / "scans" / "p07" / "t1.nii.gz")
    for name in ("notes.txt", "list.csv", "p00/report.pdf", "p01/thumbs.db", "p02/.DS_Store", "readme.md"):
        (tmp_path / "scans" / name).write_bytes(b"no image")
    said = typed("A folder in which some files are broken", tmp_path)
    document = json.loads((tmp_path / "masks" / "records.json").read_text(encoding="utf-8"))
    failed = [case["name"] for case in document["cases"] if case["status"] == "failed"]
    assert failed == ["p03_t1", "p05_t1", "p07_t1"] and len(document["cases"]) == 14
    lines = said.splitlines()
    assert all(any("t1.nii.gz" in line and words in line for line in lines) for words in ("damaged", "EOFError", "holds NaN"))
    assert "11 of 14 segmented" in said
    assert (tmp_path / "masks" / "report.html").is_file()


def test_a_network_of_your_own_has_a_page_that_exists():
    (target,) = re.findall(r"\]\((.*?)\) takes a network", PAGE.read_text(encoding="utf-8"))
    assert (PAGE.parent / target).is_file()
