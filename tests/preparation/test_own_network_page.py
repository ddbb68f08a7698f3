"""docs/own-network.md, followed to the letter in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_tta.quality.gain_predictor import GainPredictor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-network.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|bash|yaml|json)\n(.*?)^```", re.S | re.M)
FILE = re.compile(r"`(my_bundle/configs/[\w.]+)`")


def run_command(line):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-ec", line], capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_the_page_is_followed_to_the_letter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    before = 0
    for block in BLOCK.finditer(PAGE):
        language, text = block.groups()
        if language == "python":
            exec(compile(text, "own-network.md", "exec"), names)
        elif language == "bash":
            run_command(text)
        else:
            file = Path(FILE.findall(PAGE[before : block.start()])[0])  # the first one named since the last block
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        before = block.end()

    assert names["inferer"].cases[-1].reason is None, "the example shows an adapted image"
    for file in ("gain_predictor.npz", "my_bundle/models/gain_predictor.npz"):
        about = GainPredictor.load(Path(file)).about
        assert about["cases"] == 40 and about["harm held out"] <= 0.03
    (record,) = json.loads(Path("masks/records.json").read_text(encoding="utf-8"))["cases"]
    assert "Careful" in record["method"] and record["reason"] is None
    mask = np.asarray(nib.load("masks/new_seg.nii.gz").dataobj)
    assert mask.shape == (24, 28, 24) and set(np.unique(mask)) == {0, 1}


def table_of_messages():
    return re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)


@pytest.mark.parametrize("message", table_of_messages())
def test_every_message_on_the_page_is_one_of_the_code(message):
    files = [file for package in ("preparation", "evaluation") for file in (ROOT / "monai_tta" / package).glob("*.py")]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    code = re.sub(r'"\s+f?"', "", code).replace("{FOLDS}", "5")
    assert message in code
