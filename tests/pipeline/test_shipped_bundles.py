"""Bundles by name, and the safe method and the device of one."""

import shutil
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet

from monai_tta import Careful, Source, Statistics
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.bundle_predictor import careful_of, safe_method
from monai_tta.pipeline.devices import usable_device
from monai_tta.pipeline.shipped_bundles import BUNDLES, find_bundle, shipped_bundles
from monai_tta.quality.gain_predictor import PredictorError
from monai_tta.quality.predictor_files import predictor_file


def test_shipped_bundles_are_found_by_name():
    assert "hippocampus_mri" in shipped_bundles() and "overlays" not in shipped_bundles()
    for name in ("hippocampus_mri", "Hippocampus-MRI", Path("hippocampus_mri")):
        assert find_bundle(name) == BUNDLES / "hippocampus_mri"


def test_a_path_that_exists_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hippocampus_mri").mkdir()
    assert find_bundle("hippocampus_mri") == Path("hippocampus_mri")
    assert find_bundle(tmp_path) == tmp_path


def test_a_near_miss_among_bundles_is_suggested():
    with pytest.raises(ValueError, match=r"hipocampus is not a MONAI bundle.*Did you mean 'hippocampus_mri'\?.*abdomen_ct"):
        find_bundle("hipocampus")
    with pytest.raises(ValueError, match=r"that comes|comes with monai-tta\. These come with it"):
        find_bundle("/nowhere/at_all")


def unet(norm):
    with torch.random.fork_rng():
        return UNet(3, 1, 2, (4, 8), (2,), num_res_units=1, norm=norm).eval()


@pytest.mark.parametrize(
    "norm, calibrated, expected, why",
    [
        ("batch", True, Careful(), "careful, because gain_predictor.npz was calibrated for model.pt"),
        ("instance", True, Careful(), "careful, because gain_predictor.npz was calibrated for model.pt"),
        ("batch", False, Statistics(statistics="volume", blend=0.3), "has running statistics"),
        ("instance", False, Source(), "has no running statistics"),
    ],
)
def test_the_safe_method_of_a_checkpoint(norm, calibrated, expected, why, tmp_path):
    weights = tmp_path / "model.pt"
    if calibrated:
        shutil.copy(BUNDLES / "hippocampus_mri" / "models" / "gain_predictor.npz", predictor_file(weights))
    method, said = safe_method(unet(norm), weights)
    assert method == expected and why in said
    assert ("monai-tta calibrate" in said) == (not calibrated), "who has no gain predictor is told how to get one"


def test_careful_of_a_bundle_has_its_predictor(tmp_path):
    root = BUNDLES / "hippocampus_mri"
    assert careful_of(str(root)) == Careful(predictor=str(predictor_file(root / "models" / "model.pt")))
    assert careful_of(str(tmp_path)) == Careful()
    (tmp_path / "models").mkdir()
    predictor_file(tmp_path / "models" / "model.pt").write_bytes(b"no predictor")
    with pytest.raises(PredictorError):
        careful_of(str(tmp_path))


def test_a_device_is_checked_before_anything_is_computed():
    assert usable_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="no device 'gpu'; give cpu, cuda, cuda:0 or mps"):
        usable_device("gpu")
    with pytest.raises(ValueError, match="computes nothing"):
        usable_device("meta")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=f"torch .* has no device '{missing}' here; it has cpu"):
        usable_device(missing)


def test_a_bundle_is_loaded_onto_a_device():
    source = load_bundle(BUNDLES / "hippocampus_mri", "model.pt", "cpu")
    assert source.device == torch.device("cpu") and {p.device.type for p in source.network.parameters()} == {"cpu"}
    with pytest.raises(ValueError, match="no device"):
        load_bundle(BUNDLES / "hippocampus_mri", "model.pt", "cuda:99")
