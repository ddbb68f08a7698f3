"""Every Python block of every page is executed, or says here why it is not."""

import json
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from monai_tta.preparation import calibrate_network
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.transforms.phantoms import mri_phantom
from tests.doc_pages import ROOT, python_fences
from tests.reporting.example_records import document
from tests.small import saved_stump
from tests.tiny_nnunet import model_folder, write_case

FENCES = python_fences()
# Pages whose blocks another test executes, since they need more than a small network: the file of that test, and why.
RUN_ELSEWHERE = {
    "docs/own-network.md": ("tests/preparation/test_own_network_page.py", "its blocks follow on each other's files and commands"),
    "docs/programs.md": ("tests/apps/test_programs.py", "most blocks need a program that is not installed for the quick tests"),
}
# Pages that show how an inferer is made, and leave it to the reader to call it; and those without an inferer.
WITHOUT_INFERER = {"docs/records.md", "docs/nnunet.md"}


def careful_files(names, monkeypatch):
    """A gain predictor for the page's network, an image of the bundle's data set, and the records of a run."""
    Path("models").mkdir()
    shutil.copy(saved_stump("page"), "models/gain_predictor.npz")
    Path("data/images").mkdir(parents=True)
    scan = np.random.default_rng(0).normal(100, 20, (16, 17, 18)).astype(np.float32)
    nib.save(nib.Nifti1Image(scan, np.eye(4)), "data/images/hippocampus_011.nii.gz")
    monkeypatch.setenv("DATA", "data")
    records(names, monkeypatch)


def records(names, monkeypatch):
    """The records of a run."""
    Path("masks").mkdir()
    Path("masks/records.json").write_text(json.dumps(document()), encoding="utf-8")


def labelled_images(names, monkeypatch):
    """Images with labels, as many as a calibration needs, which is a quick one here: the page's own would take minutes."""
    quick = CalibrationSettings(size=12, harm=0.1, budget=2, quick=True)
    of_page = calibrate_network.calibrate_network
    monkeypatch.setattr(calibrate_network, "calibrate_network", partial(of_page, settings=quick))
    heads = [mri_phantom((12, 12, 12), seed) for seed in range(5)]
    names["images"] = [(head.image - head.image.mean()) / head.image.std() for head in heads]
    names["labels"] = [head.label for head in heads]


def nnunet_files(names, monkeypatch):
    """An nnU-Net and an image for it."""
    if find_spec("nnunetv2") is None:
        pytest.skip("nnunetv2 is not installed; `make programs` has it")
    model_folder(Path("MODEL_FOLDER"))
    write_case(Path("IMAGES"), "case")


PREPARED = {
    "docs/careful.md": careful_files,
    "docs/quality.md": labelled_images,
    "docs/records.md": records,
    "docs/nnunet.md": nnunet_files,
}


@pytest.mark.parametrize("page", [page for page in FENCES if page not in RUN_ELSEWHERE])
def test_code_on_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a page writes is not left in the repository
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(3, 1, 3, (4, 8), (2,), num_res_units=1, norm="batch").eval()
    image = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    names = {"__name__": "page", "network": network, "image": image}
    if page in PREPARED:
        PREPARED[page](names, monkeypatch)
    for code in FENCES[page]:
        exec(compile(code, page, "exec"), names)
    assert ("inferer" not in names) == (page in WITHOUT_INFERER)
    if page not in WITHOUT_INFERER:
        if not names["inferer"].cases:  # the page shows how to make one
            names["inferer"](image, network)
        assert names["inferer"].cases[-1].reason is None


@pytest.mark.parametrize("page", RUN_ELSEWHERE)
def test_a_page_whose_code_another_test_runs_is_named_there(page):
    file, _ = RUN_ELSEWHERE[page]
    assert page in FENCES, "a page without Python needs no entry"
    test = (ROOT / file).read_text(encoding="utf-8")
    assert Path(page).name in test and "exec(" in test


def test_every_preparation_is_of_a_page_with_code():
    assert {*PREPARED, *WITHOUT_INFERER} <= FENCES.keys()
    assert len(FENCES) > 15
