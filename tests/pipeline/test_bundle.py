"""The hippocampus bundle and the overlays, on phantoms."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import BundleError, load_bundle

OVERLAYS = BUNDLE.parent / "overlays"


@pytest.fixture
def scans(tmp_path):
    """Two small oblique phantom scans, of which one is not 1 mm."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, zoom in (("a", 1.0), ("b", 1.5)):
        affine = np.array([[-zoom, 0, 0.1, 5], [0, zoom, 0, -7], [0.1, 0, zoom, 3], [0, 0, 0, 1.0]])
        image = rng.normal(100, 20, (36, 40, 34)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, affine), folder / f"{name}.nii.gz")
    return folder


def bundle_process(root, scans, out, overlay=None):
    files = [str(root / "configs" / "inference.yaml")] + ([str(OVERLAYS / overlay)] if overlay else [])
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    return subprocess.run([*words, "--dataset_dir", str(scans), "--output_dir", str(out)], capture_output=True, text=True)


def run_bundle(scans, out, overlay=None):
    done = bundle_process(BUNDLE, scans, out, overlay)
    assert done.returncode == 0, done.stderr[-3000:]
    return [np.asarray(nib.load(p).dataobj) for p in sorted(Path(out).glob("*.nii.gz"))]


def test_overlays_adapt_through_monai_bundle_run(scans, tmp_path):
    weights = (BUNDLE / "models" / "model.pt").read_bytes()
    plain = run_bundle(scans, tmp_path / "plain")
    renamed = run_bundle(scans, tmp_path / "renamed", "adapt.yaml")
    wrapped = run_bundle(scans, tmp_path / "wrapped", "wrap.yaml")
    assert len(plain) == 2
    for p, r, w in zip(plain, renamed, wrapped, strict=True):
        assert p.shape == r.shape and np.array_equal(r, w) and not np.array_equal(p, r)
    for name in ("a", "b"):
        given, made = nib.load(scans / f"{name}.nii.gz"), nib.load(tmp_path / "renamed" / f"{name}_seg.nii.gz")
        assert made.shape == given.shape
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-4)
    assert (BUNDLE / "models" / "model.pt").read_bytes() == weights


@pytest.mark.parametrize("overlay", ["adapt.yaml", "wrap.yaml"])
def test_an_overlay_on_a_bundle_without_an_inferer_stops_and_names_it(bundle_copy, scans, tmp_path, overlay):
    config = bundle_copy / "configs" / "inference.yaml"
    kept = [line for line in config.read_text(encoding="utf-8").split("\n") if not line.strip().startswith("inferer:")]
    config.write_text("\n".join(kept), encoding="utf-8")
    done = bundle_process(bundle_copy, scans, tmp_path / "out", overlay)
    assert done.returncode != 0 and "inferer" in done.stderr.strip().split("\n")[-1]
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.slow
def test_the_renaming_overlay_works_on_an_evaluator_with_an_inferer_of_its_own(bundle_copy, scans, tmp_path):
    config = bundle_copy / "configs" / "inference.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace('  inferer: "@inferer"', "  inferer: {_target_: SimpleInferer}"),
        encoding="utf-8",
    )
    done = bundle_process(bundle_copy, scans, tmp_path / "out", "adapt.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
    expected = run_bundle(scans, tmp_path / "renamed", "adapt.yaml")
    for file, mask in zip(sorted((tmp_path / "out").glob("*.nii.gz")), expected, strict=True):
        assert np.array_equal(np.asarray(nib.load(file).dataobj), mask)


def test_broken_bundles_are_refused(tmp_path):
    root = tmp_path / "b"
    shutil.copytree(BUNDLE, root)
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    first = next(iter(state))
    torch.save({k: v for k, v in state.items() if k != first}, root / "models" / "model.pt")
    with pytest.raises(BundleError, match="does not fit UNet") as error:
        load_bundle(root)
    assert first in str(error.value)
    (root / "models" / "model.pt").write_bytes(b"not weights")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(root)
    (root / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match="does not exist"):
        load_bundle(root)
    config = root / "configs" / "inference.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("inferer:", "other:"), encoding="utf-8")
    with pytest.raises(BundleError, match="no 'inferer'"):
        load_bundle(root)


def test_both_checkpoints_load():
    assert type(load_bundle(BUNDLE, "model_instance.pt").network).__name__ == "UNet"
