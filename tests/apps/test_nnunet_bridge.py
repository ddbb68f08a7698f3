"""What docs/nnunet.md says of MONAI's own bridge to nnU-Net: where it is broken, and that the way round works.

A test that fails here may be good news: MONAI mended it, and the page is out of date.
"""

import pickle
import pydoc
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.tiny_nnunet import model_folder

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install 'monai-tta[nnunet]'")

from monai.apps.nnunet import nnunet_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "nnunet.md").read_text(encoding="utf-8").partition("## MONAI's own bridge")[2]


def named_classes():
    """What the page says to let in."""
    names = re.findall(r"`(numpy\.[\w.]+)`", PAGE)
    assert len(names) == 4
    return [pydoc.locate(name) for name in names]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder for the bundle, and nnU-Net's results with one trained model."""
    folder = model_folder(tmp_path / "results" / "Dataset001_Tiny" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    fold = folder / "fold_0"
    (fold / "checkpoint_best.pth").write_bytes((fold / "checkpoint_final.pth").read_bytes())
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / "bundle" / "models").mkdir(parents=True)
    return tmp_path / "bundle"


def convert(bundle):
    nnunet_bundle.convert_nnunet_to_monai_bundle({"dataset_name_or_id": 1}, str(bundle))


def test_converting_refuses_nnunets_scalars_unless_they_are_named(bundle):
    with pytest.raises(pickle.UnpicklingError, match="multiarray.scalar"):
        convert(bundle)
    with torch.serialization.safe_globals(named_classes()):
        convert(bundle)
    (checkpoint,) = (bundle.parent / "results").rglob("checkpoint_final.pth")
    weights = torch.load(checkpoint, weights_only=False)["network_weights"]
    converted = torch.load(bundle / "models" / "fold_0" / "model.pt")["network_weights"]
    assert converted.keys() == weights.keys() and all(torch.equal(converted[key], weights[key]) for key in weights)


def test_the_wrapper_calls_nnunet_with_arguments_of_older_versions(bundle):
    with torch.serialization.safe_globals(named_classes()):
        convert(bundle)
    says = "got multiple values for argument 'enable_deep_supervision'"
    assert says in PAGE
    with pytest.raises(TypeError, match=says):
        nnunet_bundle.get_nnunet_monai_predictor(bundle / "models" / "fold_0")


def test_the_way_back_imports_what_nnunet_no_longer_has():
    assert "imports an `nnUNetLogger` that nnunetv2 2.8 no longer has" in PAGE
    assert not hasattr(import_module("nnunetv2.training.logging.nnunet_logger"), "nnUNetLogger")
