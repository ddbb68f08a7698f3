"""MONAI Deploy's operator for bundles adapts with an overlay beside the bundle's config, and says so where it does not."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_tta import AdaptiveInferer
from monai_tta.cli import demo

deploy = pytest.importorskip("monai.deploy.core", reason="MONAI Deploy is not installed; `make programs` has it")
OVERLAYS = Path(demo.BUNDLE).parent / "overlays"


@pytest.fixture
def bundle(bundle_copy):
    """A bundle with our overlays beside its own configs, where Deploy looks for what is named."""
    for name in ("adapt.yaml", "wrap.yaml"):
        shutil.copy(OVERLAYS / name, bundle_copy / "configs")
    return bundle_copy


@pytest.fixture
def scan(tmp_path):
    (file, _) = demo.write_boxes(tmp_path / "boxes", "scan", demo.poor_scanner()).values()
    return np.asarray(nib.load(file).dataobj)


def answer(bundle, scan, config_names, inferer_name="inferer"):
    """What the operator sends on for a scan, and the inferer that it found in the bundle."""
    from monai.deploy.operators.monai_bundle_inference_operator import (
        BundleConfigNames,
        IOMapping,
        IOType,
        MonaiBundleInferenceOperator,
    )

    operator = MonaiBundleInferenceOperator(
        deploy.Application(),
        app_context=deploy.AppContext({}),
        bundle_path=bundle,
        input_mapping=[IOMapping("image", deploy.Image, IOType.IN_MEMORY)],
        output_mapping=[IOMapping("pred", deploy.Image, IOType.IN_MEMORY)],
        bundle_config_names=BundleConfigNames(config_names=config_names, inferer_name=inferer_name),
        name="segment",
    )
    sent = {}
    outputs = SimpleNamespace(get=lambda name: None, emit=lambda value, name: sent.update({name: value}))
    operator.compute(SimpleNamespace(receive=lambda name: scan), outputs, None)
    return sent["pred"].asnumpy(), operator._inferer


@pytest.mark.parametrize(
    ("config_names", "inferer_name"), [(["inference", "adapt"], "inferer"), (["inference", "wrap"], "adaptive_inferer")]
)
def test_with_an_overlay_it_adapts(bundle, scan, config_names, inferer_name):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapt")
        mask, inferer = answer(bundle, scan, config_names, inferer_name)
    unadapted, _ = answer(bundle, scan, ["inference"])
    assert isinstance(inferer, AdaptiveInferer)
    assert [case.adapted for case in inferer.cases] == [True] and inferer.cases[0].weight_distance > 0
    assert mask.any() and mask.shape == unadapted.shape


@pytest.mark.parametrize("config_names", [["inference"], ["inference", "wrap"]])
def test_without_ours_by_its_name_it_does_not(bundle, scan, config_names):
    _, inferer = answer(bundle, scan, config_names)
    assert not isinstance(inferer, AdaptiveInferer)


def test_a_file_of_torchscript_wins_and_is_answered_unadapted_with_a_warning(bundle, scan):
    config = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.yaml"))
    network = config.get_parsed_content("network").cpu().eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True))
    plain, _ = answer(bundle, scan, ["inference"])
    torch.jit.script(network).save(bundle / "models" / "model.ts")
    with pytest.warns(UserWarning, match="answered without adaptation: .*TorchScript"):
        mask, inferer = answer(bundle, scan, ["inference", "adapt"])
    assert [case.adapted for case in inferer.cases] == [False]
    np.testing.assert_array_equal(mask, plain)


def test_an_overlay_elsewhere_is_refused_by_deploy(bundle, scan):
    with pytest.raises(ValueError, match="Invalid config name"):
        answer(bundle, scan, ["inference", str(OVERLAYS / "adapt.yaml")])
