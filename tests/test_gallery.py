"""The scripts of the gallery run on phantoms and make pictures."""

import runpy
import sys
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pytest
import typer
from matplotlib.image import imread
from PIL import Image
from typer.testing import CliRunner

from monai_tta.cli.demo import BUNDLE
from monai_tta.transforms.phantoms import ct_phantom, fundus_phantom, mri_phantom

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("Agg")


@pytest.mark.parametrize("kind", ["mri", "ct", "fundus"])
def test_from_file_to_picture(kind, tmp_path, monkeypatch):
    if kind == "fundus":
        file = tmp_path / "photograph.png"
        Image.fromarray((fundus_phantom((96, 96)).image * 255).byte().permute(2, 1, 0).numpy()).save(file)
    else:
        file = tmp_path / "scan.nii.gz"
        phantom = mri_phantom((36, 36, 36)) if kind == "mri" else ct_phantom((64, 64, 32))
        nib.save(nib.Nifti1Image(phantom.image[0].numpy(), np.diag([1.0 if kind == "mri" else 3.0] * 3 + [1])), file)
    monkeypatch.setattr(sys, "argv", [kind, str(file), str(tmp_path / "picture.png")])
    runpy.run_path(str(GALLERY / f"{kind}.py"), run_name="__main__")
    assert imread(tmp_path / "picture.png").std() > 0.01
    assert len((GALLERY / f"{kind}.py").read_text(encoding="utf-8").splitlines()) < 30


@pytest.mark.slow
def test_every_shift_is_drawn(tmp_path):
    main = runpy.run_path(str(GALLERY / "shifts.py"))["main"]

    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.png", "fundus.png", "mri.png"]


def test_every_bundle_with_weights_has_a_script():
    shipped = {p.parents[1].name.split("_")[-1] for p in BUNDLE.parent.glob("*/models/model.pt")}
    assert shipped <= {p.stem for p in GALLERY.glob("*.py")}
