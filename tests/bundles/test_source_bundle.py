"""The hippocampus bundle as MONAI's own tools see it: metadata, network, training on one and two processes, evaluation."""

import json
import os
import subprocess
import sys

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from monai.engines import IterationEvents

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.cli.demo import BUNDLE
from monai_tta.core.auxiliary_heads import heads_of
from monai_tta.core.fisher_file import FisherInformation
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.stored_features import StoredFeatures
from monai_tta.core.tasks import RotationTask
from monai_tta.quality.features import FEATURES
from monai_tta.quality.gain_predictor import GainPredictor
from monai_tta.quality.input_reference import read_input_reference
from monai_tta.quality.quality_predictor import QualityPredictor

CONFIGS = BUNDLE / "configs"
ALL = sorted(p.parent for p in BUNDLE.parent.glob("*/configs"))
BUNDLES = pytest.mark.parametrize("bundle", ALL, ids=[p.name for p in ALL])
OVERLAYS = BUNDLE.parent / "overlays"
# What MONAI's metadata schema of 2024-07-25 requires, so that the check needs no internet.
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
TEXTS = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors", "copyright"]
SCHEMA = {
    "type": "object",
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in TEXTS},
        "required_packages_version": {"type": "object"},
        "changelog": {"type": "object"},
        "eval_metrics": {"type": "object"},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {way: {"type": "object", "patternProperties": {"^.+$": TENSOR}} for way in ("inputs", "outputs")},
        },
    },
}


def bundle_run(root, files, *words, launcher=(sys.executable, "-m")):
    configs = str([str(p) for p in files])
    command = [*launcher, "monai.bundle", "run", "--config_file", configs, "--bundle_root", str(root), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@BUNDLES
def test_metadata_is_valid(bundle, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    file = bundle / "configs" / "metadata.json"
    verify_metadata(meta_file=str(file), filepath=str(schema))
    metadata = json.loads(file.read_text(encoding="utf-8"))
    del metadata["network_data_format"]["outputs"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


@BUNDLES
@pytest.mark.parametrize("config", ["inference.yaml", "train.yaml"])
def test_network_is_as_metadata_says(bundle, config):
    check = ("network_def", str(bundle / "configs" / "metadata.json"), str(bundle / "configs" / config), "cpu")
    verify_net_in_out(*check)
    with pytest.raises(ValueError, match="doesn't match: `7`"):
        verify_net_in_out(*check, **{"_meta_#network_data_format#outputs#pred#num_channels": 7})


@BUNDLES
def test_every_checkpoint_is_small_and_documented(bundle):
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    for file in (bundle / "models").glob("*"):
        if file.suffix == ".npz" and file.name.startswith("rehearsal"):
            assert StoredFeatures.load(file).units
        elif file.name.startswith("learned_optimizer"):
            assert TrainedOptimizer.load(file).tensors and file.stat().st_size < 20_000
        elif file.name.startswith("fisher"):
            assert FisherInformation.load(file).values and file.stat().st_size < 20_000
        elif file.name.startswith("quality_predictor"):
            assert QualityPredictor.load(file).structures
        elif file.suffix == ".npz":
            assert set(GainPredictor.load(file).features) <= set(FEATURES)
        elif file.name.startswith("reference"):
            assert read_input_reference(file) is not None and file.stat().st_size < 20_000
        else:
            assert file.suffix == ".pt"
        assert file.stat().st_size < 10_000_000 and file.name in page
    for word in ("icence", "Research use only", "Limits"):
        assert word in page


@BUNDLES
@pytest.mark.parametrize("overlay", ["adapt.yaml", "wrap.yaml"])
def test_exported_torchscript_runs_unadapted(bundle, overlay, tmp_path):
    """`ckpt_export`, then the same configs with the archive in place of the network."""
    if not (bundle / "models" / "model.pt").exists():
        pytest.skip("the bundle ships no weights; test_fundus_bundles.py trains some and exports them")
    configs = bundle / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "inference.yaml"), str(OVERLAYS / overlay)])
    parser.update({"bundle_root": str(bundle), "output_dir": str(tmp_path)})
    shape = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))["network_data_format"]["inputs"]["image"]
    size = (1, shape["num_channels"], *shape["spatial_shape"])
    archive = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        str(archive),
        str(bundle / "models" / "model.pt"),
        str(configs / "metadata.json"),
        str(configs / "inference.yaml"),
        input_shape=list(size),
    )
    network, inferer = torch.jit.load(str(archive)), parser.get_parsed_content("evaluator").inferer
    x = torch.rand(size, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="TorchScript, which hides its layers"), torch.no_grad():
        answer = inferer(x, network)
    parser.get_parsed_content("load")
    with torch.no_grad():
        unadapted = parser.get_parsed_content("network").eval()(x)
    torch.testing.assert_close(answer, unadapted, rtol=1e-3, atol=1e-3)


def test_network_definitions_agree():
    train, inference = ({**ConfigParser.load_config_file(str(CONFIGS / f"{n}.yaml"))} for n in ("train", "inference"))
    assert train["network_def"] == inference["network_def"] and train["heads"] == inference["heads"]
    assert train["auxiliary_heads"] is inference["auxiliary_heads"] is False


@pytest.mark.slow
def test_training_with_auxiliary_heads(bundle_copy, phantom_set):
    once = ["--dataset_dir", phantom_set, "--max_epochs", 1, "--val_interval", 1]
    bundle_run(bundle_copy, [CONFIGS / "train.yaml"], *once, "--checkpoint", "h.pt", "--auxiliary_heads", "True")
    bundle_run(bundle_copy, [CONFIGS / "train.yaml"], *once, "--checkpoint", "p.pt")
    state, without = (torch.load(bundle_copy / "models" / n, weights_only=True) for n in ("h.pt", "p.pt"))
    assert set(state) - set(without) and all("auxiliary_heads" in key for key in set(state) - set(without))
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.yaml"))
    parser.update({"bundle_root": str(bundle_copy), "checkpoint": "h.pt", "auxiliary_heads": True})
    parser.get_parsed_content("load")
    network = parser.get_parsed_content("network").eval()
    assert torch.equal(heads_of(network).pose.weight, state["auxiliary_heads.pose.weight"])
    run = AdaptiveInferer((32, 32, 32), 1, 0.25, method=GraTa(auxiliary=RotationTask()), head="softmax", budget=1)
    run(torch.randn(1, 1, 36, 36, 36, generator=torch.Generator().manual_seed(0)), network)
    assert run.cases[-1].reason is None and run.cases[-1].weight_distance > 0


def test_training_on_two_processes(bundle_copy, phantom_set):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    files = [CONFIGS / "train.yaml", CONFIGS / "multi_gpu_train.yaml"]
    words = ["--dataset_dir", phantom_set, "--max_epochs", 1, "--val_interval", 1, "--checkpoint", "m.pt"]
    bundle_run(bundle_copy, files, *words, launcher=launcher)
    state = torch.load(bundle_copy / "models" / "m.pt", weights_only=True)
    assert set(state) == set(torch.load(BUNDLE / "models" / "model.pt", weights_only=True))


def test_evaluation_writes_dice_per_label(phantom_set, tmp_path):
    files = [CONFIGS / "inference.yaml", CONFIGS / "evaluate.yaml"]
    bundle_run(BUNDLE, files, "--dataset_dir", phantom_set, "--output_dir", tmp_path / "out", "--split", "target")
    summary = (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8")
    assert 0 <= float(summary.strip().split(",")[1]) <= 1, "one number, by which the best epoch is chosen"
    head, *rows = (tmp_path / "out" / "val_mean_dice_raw.csv").read_text(encoding="utf-8").splitlines()
    assert "class1" in head and all(".nii.gz" in row for row in rows), "each label's score is beside its case"


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("overlay", ["adapt.yaml", "wrap.yaml"])
def test_the_bundles_evaluator_gives_the_answers_of_a_direct_call(phantom_set, tmp_path, overlay, amp):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.yaml"), str(OVERLAYS / overlay)])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(phantom_set / "images"), "output_dir": str(tmp_path)})
    parser["evaluator#amp"] = amp
    parser.get_parsed_content("load")
    evaluator = parser.get_parsed_content("evaluator")
    answers = []

    def keep(engine):
        answers.append((engine.state.output["image"].clone(), engine.state.output["pred"].clone()))

    evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, keep)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate())
    evaluator.run()
    network, inferer = parser.get_parsed_content("network"), evaluator.inferer
    network.eval()
    assert isinstance(inferer, AdaptiveInferer) and len(answers) == 2
    direct = AdaptiveInferer(inferer=parser.get_parsed_content("inferer")) if overlay == "wrap.yaml" else inferer
    for (image, seen), case in zip(answers, list(inferer.cases)[:2], strict=True):
        assert case.reason is None and case.n_windows
        with torch.no_grad():
            assert torch.equal(direct(image, network).as_tensor(), seen.as_tensor())
