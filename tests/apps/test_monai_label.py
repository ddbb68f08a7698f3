"""MONAI Label with our app gives the masks of `monai-tta run`, in its server where it is installed."""

import json
import socket
from importlib import import_module
from importlib.util import find_spec
from threading import Thread
from time import sleep

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer
from monai_tta.cli import demo
from monai_tta.cli.app import app
from tests.apps.label_interfaces import imitate
from tests.small import network

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


@pytest.fixture
def server(bundle_copy, studies, tmp_path, monkeypatch):
    """The address of MONAI Label's server on this machine, with an app of one line."""
    import uvicorn
    from monailabel.config import settings

    label_app = tmp_path / "label_app"
    label_app.mkdir()
    (label_app / "main.py").write_text("from monai_tta.apps.monai_label import AdaptiveLabelApp\n", encoding="utf-8")
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(label_app))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_CONF", {"bundle": str(bundle_copy), **STATISTICS})
    from monailabel.app import app as label_server

    running = uvicorn.Server(uvicorn.Config(label_server, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=running.run, args=([listening],))
        thread.start()
        while not running.started:
            assert thread.is_alive(), "the server did not start"
            sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        running.should_exit = True
        thread.join()


@has_monai_label
def test_the_server_answers_with_the_mask_of_run(server, bundle_copy, studies, tmp_path):
    import requests

    info = requests.get(f"{server}/info/").json()
    assert info["models"]["bundle"]["labels"] == {"anterior hippocampus": 1, "posterior hippocampus": 2}
    answer = requests.post(f"{server}/infer/bundle?image=scan&output=image")
    assert answer.status_code == 200
    (tmp_path / "answer.nii.gz").write_bytes(answer.content)
    wanted = mask_of_run(bundle_copy, studies, tmp_path / "masks", "--method", "statistics")
    found = nib.load(tmp_path / "answer.nii.gz")
    np.testing.assert_array_equal(found.get_fdata(), wanted.get_fdata())
    np.testing.assert_allclose(found.affine, wanted.affine)
    record = requests.post(f"{server}/infer/bundle?image=scan&output=json").json()
    assert record["adapted"]
    assert [(one["structure"], one["name"]) for one in record["quality"]] == [
        (1, "anterior hippocampus"),
        (2, "posterior hippocampus"),
    ]


@has_monai_label
def test_slicers_own_client_gets_mask_and_record_at_once(server, bundle_copy, studies, tmp_path):
    """3D Slicer's module talks to the server with this client, and asks for NRRD."""
    from monailabel.client.client import MONAILabelClient

    client = MONAILabelClient(server, tmpdir=str(tmp_path))
    assert client.info()["models"]["bundle"]["config"]["adapt"] is True
    file, record = client.infer("bundle", "scan", {"result_extension": ".nrrd"})
    assert file.endswith(".nrrd") and record["adapted"] and "expected Dice" in record["worth"]
    plain, of_plain = client.infer("bundle", "scan", {"result_extension": ".nrrd", "adapt": False})
    assert not of_plain["adapted"]
    for method, answered in (("statistics", file), ("source", plain)):
        mask_of_run(bundle_copy, studies, tmp_path / method, "--method", method)
        found, wanted = (sitk.ReadImage(str(name)) for name in (answered, tmp_path / method / "scan_seg.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(wanted))


@has_monai_label
def test_in_slicer_the_mask_lies_on_the_image_that_slicer_loaded_or_uploaded(server, studies, tmp_path):
    """Slicer's own libraries do what its module for MONAI Label asks of them; nobody clicks."""
    pytest.importorskip("slicer_core", reason="3D Slicer's libraries are not installed; `make programs` has them")
    from monailabel.client.client import MONAILabelClient

    from tests.apps.slicer_scene import SlicerScene, grid, voxels

    scene = SlicerScene()
    scan = scene.volume(studies / "scan.nii.gz")
    scene.save(scan, tmp_path / "uploaded.nii.gz")
    client = MONAILabelClient(server, tmpdir=str(tmp_path))
    client.upload_image(str(tmp_path / "uploaded.nii.gz"), "uploaded")
    for name in ("scan", "uploaded"):
        file, record = client.infer("bundle", name, {"result_extension": ".nrrd"})
        assert record["adapted"]
        mask = scene.label_map(file)
        np.testing.assert_allclose(grid(mask), grid(scan), atol=1e-5)
        segmentation = scene.segmentation(mask)
        assert segmentation.GetSegmentation().GetNumberOfSegments() == 2
        found = voxels(scene.on_grid_of(scan, segmentation))
        assert found.shape == voxels(scan).shape and set(np.unique(found)) == {0, 1, 2}
        np.testing.assert_array_equal(found, sitk.GetArrayFromImage(sitk.ReadImage(str(file))))


@has_monai_label
@pytest.mark.parametrize("key", ["scan", "image"])
def test_a_task_of_monai_labels_own_kind_adapts_with_our_inferer(key, studies):
    """By the way round that docs/programs.md tells: under the key ``image`` its resampling still fails."""
    from monai.transforms import AsDiscreted, CopyItemsd, EnsureChannelFirstd, LoadImaged, Spacingd, SqueezeDimd
    from monailabel.interfaces.tasks.infer_v2 import InferType
    from monailabel.tasks.infer.basic_infer import BasicInferTask

    inferer = AdaptiveInferer(roi_size=(16, 16, 16), overlap=0.5, head="softmax")

    class OwnTask(BasicInferTask):
        def pre_transforms(self, data=None):
            steps = [LoadImaged(key), EnsureChannelFirstd(key), Spacingd(key, pixdim=(1, 1, 1))]
            return [CopyItemsd("image", names="scan"), *steps] if key == "scan" else steps

        def inferer(self, data=None):
            return inferer

        def post_transforms(self, data=None):
            return [AsDiscreted("pred", argmax=True), SqueezeDimd("pred", dim=0)]

    task = OwnTask(None, network(), InferType.SEGMENTATION, ["one"], 3, "own", input_key=key, config={"device": "cpu"})
    request = {"image": str(studies / "scan.nii.gz")}
    if key == "image":
        with pytest.raises(AttributeError, match="'str' object has no attribute 'update'"):
            task(request)
        return
    file, _ = task(request)
    assert [case.adapted for case in inferer.cases] == [True]
    assert nib.load(file).shape == nib.load(studies / "scan.nii.gz").shape
