"""The page of first commands: each is typed as it stands there, in a folder with such images."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_tta.transforms.phantoms import fundus_phantom

PAGE = Path(__file__).parents[2] / "docs" / "first-commands.md"
pytestmark = pytest.mark.slow


# Of each broken file of the mixed folder, what is said.
BROKEN = {".nii.gz": "damaged", ".mha": "cannot be read", ".nrrd": "holds NaN"}


def volume(file, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(100, 20, (34, 36, 35)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(file))


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


def test_a_mixed_folder_of_twenty_of_which_three_are_broken(tmp_path):
    pytest.importorskip("pydicom")
    from tests.pipeline.pydicom_series import write_ct, write_enhanced_ct

    scans = tmp_path / "scans"
    for number, ending in enumerate((".nii.gz", ".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nrrd", ".nii.gz", ".mha", ".nrrd")):
        volume(scans / f"p{number}" / f"t1{ending}", number)
    (scans / "p7" / "t1.nii.gz").write_bytes(b"damaged")
    truncated = scans / "p8" / "t1.mha"
    truncated.write_bytes(truncated.read_bytes()[:2000])
    sitk.WriteImage(sitk.GetImageFromArray(np.full((34, 36, 35), np.nan, np.float32)), str(scans / "p9" / "t1.nrrd"))
    write_ct(scans / "ct")
    for series in (4, 5):
        for file in write_ct(tmp_path / f"series{series}", number=series).iterdir():
            (scans / "study").mkdir(exist_ok=True)
            file.rename(scans / "study" / f"{series}_{file.name}")
    write_enhanced_ct(scans / "enhanced.dcm")
    for name in ("notes.txt", "list.csv", "p0/report.pdf", "p1/thumbs.db", "p2/.DS_Store", "readme.md"):
        (scans / name).write_bytes(b"no image")
    said = typed("A mixed folder in which some files are broken", tmp_path)
    document = json.loads((tmp_path / "masks" / "records.json").read_text(encoding="utf-8"))
    cases = {case["name"]: case["status"] for case in document["cases"]}
    assert [name for name, status in cases.items() if status == "failed"] == ["p7_t1", "p8_t1", "p9_t1"]
    assert set(cases) == {"ct", "enhanced", "study_4", "study_5", *(f"p{number}_t1" for number in range(10))}
    lines = said.splitlines()
    assert all(any(f"t1{end}" in line and words in line for line in lines) for end, words in BROKEN.items())
    assert "11 of 14 segmented" in said
    assert (tmp_path / "masks" / "report.html").is_file()


def test_a_network_of_your_own_has_a_page_that_exists():
    (target,) = re.findall(r"\]\((.*?)\) takes a network", PAGE.read_text(encoding="utf-8"))
    assert (PAGE.parent / target).is_file()
