"""`monai-tta fisher`: a bundle's Fisher information from unlabelled images, and EATA finding it."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_tta import EATA
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.core.fisher_file import FisherInformation, fisher_file
from monai_tta.core.network_copy import network_digest
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.preparation.fisher import fisher_information, fisher_of_bundle
from monai_tta.preparation.rehearsal import adaptation_window
from monai_tta.preparation.source_images import open_source_images


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def scans(phantom_set, *numbers):
    return [phantom_set / "images" / f"c{number}.nii.gz" for number in numbers]


def test_a_bundles_information_is_that_of_the_windows_that_would_be_adapted_on(phantom_set, bundle_copy):
    *counted, found = fisher_of_bundle(bundle_copy, scans(phantom_set, 0, 1))
    assert counted == [1, 2] and found.about["windows"] == 2
    bundle = load_bundle(bundle_copy, "model.pt", None)
    assert found.network == network_digest(bundle.network)
    with open_source_images(bundle_copy, None, "model.pt", None, ConfigChanges.of((), None), scans(phantom_set, 0, 1)) as source:
        images = [torch.as_tensor(image.read()[0].as_tensor())[None] for image in source.images]
        windows = [adaptation_window(bundle.network, bundle.inferer, image, "softmax")[0] for image in images]
    expected = fisher_information(bundle.network, windows, "softmax")
    assert list(found.values) == list(expected.values) and found.values
    for name, value in expected.values.items():
        torch.testing.assert_close(found.values[name], value)
    assert sum(float(value.sum()) for value in found.values.values()) > 0


def test_the_command_makes_a_file_that_eata_finds(phantom_set, bundle_copy, tmp_path):
    done = invoke("fisher", bundle_copy, *scans(phantom_set, 0, 1), "--json")
    assert done.exit_code == 0, done.output
    file = bundle_copy / "models" / "fisher.npz"
    said = json.loads(done.stdout)
    assert said["written"] == str(file) and said["left out"] == []
    assert said["found"]["windows"] == 2 and said["found"]["bytes"] == file.stat().st_size < 100_000
    content = b"".join(value.tobytes() for value in np.load(file, allow_pickle=False).values())
    assert b"phantoms" not in content and b".nii" not in content and str(tmp_path).encode() not in content
    done = invoke("run", bundle_copy, *scans(phantom_set, 4), "--method", "eata", "--out", tmp_path / "o")
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "o" / "records.json").read_text(encoding="utf-8"))["cases"]
    assert record["reason"] is None and "file='fisher.npz'" in record["method"] and str(tmp_path) not in json.dumps(record)


def test_what_may_move_is_chosen_as_for_eata(phantom_set, bundle_copy, tmp_path):
    file = tmp_path / "all" / "fisher.npz"
    (bundle_copy / "models" / "fisher.npz").unlink()
    done = invoke("fisher", bundle_copy, *scans(phantom_set, 0), "--choose", "select=Everything", "--out", file)
    assert done.exit_code == 0 and "by 1 windows" in done.output and not (bundle_copy / "models" / "fisher.npz").exists()
    network = load_bundle(bundle_copy, "model.pt", None).network
    assert set(FisherInformation.load(file).values) == {name for name, _ in network.named_parameters()}
    wrong = invoke("fisher", bundle_copy, *scans(phantom_set, 0), "--choose", "selekt=Everything")
    assert wrong.exit_code == 2 and "selekt" in wrong.output


def test_a_bad_image_is_left_out_and_said(phantom_set, bundle_copy, tmp_path):
    good, bad = scans(phantom_set, 0)[0], tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    done = invoke("fisher", bundle_copy, bad, good, "--json")
    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    assert said["found"]["windows"] == 1 and len(said["left out"]) == 1 and "bad.nii.gz" in said["left out"][0]
    (bundle_copy / "models" / "fisher.npz").unlink()
    shutil.copy(bad, tmp_path / "worse.nii.gz")
    done = invoke("fisher", bundle_copy, bad, tmp_path / "worse.nii.gz")
    assert done.exit_code == 2 and "none of 2 images could be used" in done.output
    assert not (bundle_copy / "models" / "fisher.npz").exists()


@pytest.mark.parametrize("words, said", [(["nowhere"], "nowhere"), ([], "IMAGES")])
def test_images_that_are_not_there_are_named(words, said, bundle_copy):
    done = invoke("fisher", bundle_copy, *words)
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("name", ["hippocampus_mri", "vessel_fundus"])
def test_the_shipped_files_fit_their_checkpoints(name):
    root = BUNDLE.parent / name
    network = load_bundle(root, "model.pt", None).network
    method = EATA().for_checkpoint(root / "models" / "model.pt")
    shadow = method.begin(network, "softmax")
    shipped = FisherInformation.load(fisher_file(root / "models" / "model.pt"))
    assert set(shipped.values) == set(shadow.names) and all(float(value.sum()) > 0 for value in shipped.values.values())
