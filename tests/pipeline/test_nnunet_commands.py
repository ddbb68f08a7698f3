"""Commands on nnU-Net model folders, through nnunetv2 itself; skipped where that is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.evaluation import costs
from monai_tta.evaluation.cost_job import WAYS
from monai_tta.pipeline.shards import Shard
from tests.attack.stops import figures
from tests.tiny_nnunet import model_folder, write_case, write_descriptions

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install 'monai-tta[nnunet]'")

TRAINED = "Dataset001_Tiny/nnUNetTrainer__nnUNetPlans__3d_fullres"


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def mask_bytes(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.nii.gz")}


def saved_by_the_trainer(results, monkeypatch):
    """A model folder whose checkpoint nnU-Net's own trainer writes, after an epoch that is made up, with given weights."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    like = model_folder(results.parent / "like")
    for name, folder in {"nnUNet_results": results, "nnUNet_preprocessed": results.parent / "preprocessed"}.items():
        monkeypatch.setenv(name, str(folder))
    plans, dataset = (json.loads((like / name).read_text("utf-8")) for name in ("plans.json", "dataset.json"))
    trainer = nnUNetTrainer({**plans, "continue_training": False}, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3, False)
    weights = torch.load(like / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    trainer.network.load_state_dict(weights)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    trainer.was_initialized = True
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([{"loss": torch.tensor(0.5).numpy()}])
    hard = {f"{kind}_hard": torch.ones(2).numpy() for kind in ("tp", "fp", "fn")}
    trainer.on_validation_epoch_end([{"loss": torch.tensor(0.4).numpy(), **hard}])
    trainer.on_epoch_end()
    folder = Path(trainer.output_folder)
    trainer.save_checkpoint(str(folder / "checkpoint_final.pth"))
    write_descriptions(folder.parent)
    return folder.parent


def test_the_plain_answer_is_the_file_of_nnunets_own_command_for_a_checkpoint_of_its_own_trainer(tmp_path, monkeypatch):
    folder = saved_by_the_trainer(tmp_path / "results", monkeypatch)
    assert folder == tmp_path / "results" / TRAINED
    content = torch.serialization.get_unsafe_globals_in_checkpoint(folder / "fold_0" / "checkpoint_final.pth")
    assert any(name.endswith("multiarray.scalar") for name in content)  # or reading it would be no feat
    write_case(tmp_path / "in", "case")
    command = Path(sys.executable).with_name("nnUNetv2_predict")
    words = ["-i", tmp_path / "in", "-o", tmp_path / "nnunet", "-d", "1", "-c", "3d_fullres", "-f", "0", "-device", "cpu"]
    environment = {**os.environ, "nnUNet_results": str(tmp_path / "results")}
    subprocess.run([command, *words, "-npp", "1", "-nps", "1"], check=True, env=environment, capture_output=True)
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "ours", "--method", "source")
    assert mask_bytes(tmp_path / "ours")["case_seg.nii.gz"] == mask_bytes(tmp_path / "nnunet")["case.nii.gz"]


def test_workers_and_shards_write_what_one_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = model_folder(tmp_path / "model", channels=("T1", "FLAIR"), folds=(0, 1))
    names = ["c0", "c1", "c2", "c3"]
    assert {Shard(1, 2).holds(name) for name in names} == {True, False}
    for seed, name in enumerate(names):
        write_case(tmp_path / "in", name, 2, seed)
    words = ["run", folder, tmp_path / "in", "--method", "tent", "--seed", "3", "--out"]
    tta(*words, tmp_path / "one")
    tta(*words, tmp_path / "workers", "--workers", "2")
    for index in (1, 2):
        tta(*words, tmp_path / "shards", "--shard", f"{index}/2")
    expected = mask_bytes(tmp_path / "one")
    assert sorted(expected) == [f"{name}_seg.nii.gz" for name in names]
    for way in ("workers", "shards"):
        assert mask_bytes(tmp_path / way) == expected and figures(tmp_path / way) == figures(tmp_path / "one"), way


def test_profile_as_a_command(tmp_path, monkeypatch):
    measure = costs._memory  # each way in a process of its own, which takes long to start: here the first alone
    monkeypatch.setattr(costs, "_memory", lambda job, way: measure(job, way) if way == WAYS[0] else None)
    monkeypatch.setattr(costs, "matrix_rate", lambda *_: 100.0)  # of large products, which are no part of a network
    folder = model_folder(tmp_path / "model", mirrors=(0,))
    said = tta("profile", folder, "--method", "tent", "--size", "18,18,18", "--repeats", "1", "--out", tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert [cost["way"] for cost in found["costs"]] == list(WAYS) and found["windows"] == 8
    assert found["costs"][0]["memory"] is not None
    assert "x unadapted" in said and "18 x 18 x 18" in said
