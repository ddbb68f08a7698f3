"""MONAI Label with our app gives the masks of `monai-tta run`, in its server where it is installed."""

import json
from importlib import import_module
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from monai_tta.cli import demo
from monai_tta.cli.app import app
from tests.apps.label_interfaces import imitate

STATISTICS = {"method": "statistics"}
has_monai_label = pytest.mark.skipif(find_spec("monailabel") is None, reason="MONAI Label is not installed")


@pytest.fixture
def ours(monkeypatch):
    """Our module, on MONAI Label or on an imitation of its interfaces."""
    imitate(monkeypatch)
    return import_module("monai_tta.apps.monai_label")


@pytest.fixture
def studies(tmp_path):
    """A folder with one scan, whose axes do not lie along the world's."""
    folder = tmp_path / "studies"
    (file, _) = demo.write_boxes(tmp_path / "boxes", "scan", demo.poor_scanner()).values()
    voxels = np.asarray(nib.load(file).dataobj)
    affine = np.array([[0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    folder.mkdir()
    nib.save(nib.Nifti1Image(voxels.transpose(1, 0, 2)[:, ::-1], affine), folder / "scan.nii.gz")
    return folder


def mask_of_run(bundle, studies, out, *words):
    result = CliRunner().invoke(app, ["run", str(bundle), str(studies), "--out", str(out), "--no-check", *words])
    assert result.exit_code == 0, result.output
    return nib.load(out / "scan_seg.nii.gz")


@pytest.mark.parametrize("form", [None, ".nii", ".nrrd", ".mha"])
def test_the_mask_is_that_of_run_in_the_form_that_was_asked_for(ours, bundle_copy, studies, tmp_path, form):
    task = ours.AdaptiveInferTask(bundle_copy, **STATISTICS)
    file, params = task({"image": str(studies / "scan.nii.gz"), **({"result_extension": form} if form else {})})
    assert file.endswith(form or ".nii.gz") and params["adapted"] and params["reason"] is None
    assert "expected Dice" in params["worth"] and json.dumps(params)
    expected = tmp_path / "masks" / "scan_seg.nii.gz"
    mask_of_run(bundle_copy, studies, tmp_path / "masks", "--method", "statistics")
    assert nib.load(expected).get_fdata().any()
    found, wanted = (sitk.ReadImage(str(name)) for name in (file, expected))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(wanted))
    for part in ("GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(found, part)(), getattr(wanted, part)(), atol=1e-5)


def test_a_client_can_turn_adaptation_off(ours, bundle_copy, studies, tmp_path):
    task = ours.AdaptiveInferTask(bundle_copy, **STATISTICS)
    adapted, _ = task({"image": str(studies / "scan.nii.gz")})
    plain, params = task({"image": str(studies / "scan.nii.gz"), "adapt": "false"})
    assert not params["adapted"] and params["method"] == "Source()"
    wanted = mask_of_run(bundle_copy, studies, tmp_path / "masks", "--method", "source")
    np.testing.assert_array_equal(nib.load(plain).get_fdata(), wanted.get_fdata())
    assert not np.array_equal(nib.load(plain).get_fdata(), nib.load(adapted).get_fdata())


def test_without_a_name_the_safe_method_answers_and_says_why(ours, bundle_copy):
    task = ours.AdaptiveInferTask(bundle_copy)
    assert type(task.method).__name__ == "Careful" and "gain_predictor.npz" in task.description
    assert list(task.labels) == ["anterior hippocampus", "posterior hippocampus"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"image": ["a", "b"]}, "found list"),
        ({"image": "/nowhere/scan.nii.gz"}, "scan.nii.gz"),
        ({"image": "scan", "result_extension": ".seg.nrrd"}, r"'.seg.nrrd' was asked for"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(ours, bundle_copy, request_, words):
    task = ours.AdaptiveInferTask(bundle_copy, **STATISTICS)
    with pytest.raises(ours.MONAILabelException) as refused:
        task(request_)
    assert words.strip("r") in refused.value.msg


@pytest.mark.parametrize(("conf", "words"), [({}, "--conf bundle"), ({"bundle": "nothing"}, "no bundle of that name")])
def test_an_app_without_a_usable_bundle_is_refused(ours, tmp_path, conf, words):
    with pytest.raises(ours.MONAILabelException) as refused:
        ours.AdaptiveLabelApp(str(tmp_path), str(tmp_path), conf)
    assert words in refused.value.msg


@has_monai_label
def test_the_server_answers_with_the_mask_of_run(bundle_copy, studies, tmp_path, monkeypatch):
    from fastapi.testclient import TestClient
    from monailabel.config import settings

    label_app = tmp_path / "label_app"
    label_app.mkdir()
    (label_app / "main.py").write_text("from monai_tta.apps.monai_label import AdaptiveLabelApp\n", encoding="utf-8")
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(label_app))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_CONF", {"bundle": str(bundle_copy), **STATISTICS})
    from monailabel.app import app as server

    client = TestClient(server)
    info = client.get("/info/").json()
    assert info["models"]["bundle"]["labels"] == {"anterior hippocampus": 1, "posterior hippocampus": 2}
    answer = client.post("/infer/bundle?image=scan&output=image")
    assert answer.status_code == 200
    (tmp_path / "answer.nii.gz").write_bytes(answer.content)
    wanted = mask_of_run(bundle_copy, studies, tmp_path / "masks", "--method", "statistics")
    found = nib.load(tmp_path / "answer.nii.gz")
    np.testing.assert_array_equal(found.get_fdata(), wanted.get_fdata())
    np.testing.assert_allclose(found.affine, wanted.affine)
    record = client.post("/infer/bundle?image=scan&output=json").json()
    assert record["adapted"] and record["quality"] is None
