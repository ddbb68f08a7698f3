"""MGG: its loss, what it needs from the source, and what its record says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from monai_tta import MGG, SGD, Adam, Careful, Everything, GraTa, Learned, NormAffine, Statistics, Tent
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.learned_optimizer import digest_of
from monai_tta.core.shadow import Shadow
from monai_tta.evaluation.cost_job import CostJob
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.methods.mgg import logits_and_features
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.shipped_bundles import BUNDLES
from tests.small import NORMS, image, inferer, network, saved_optimizer, saved_stump

FEATURES = {"feature_mean": torch.zeros(8), "feature_std": torch.ones(8)}  # of the two layers of four channels


def of(net, **choices):
    """A file for a network's normalisation layers."""
    tensors = digest_of(Shadow(net, "softmax", NormAffine()).start)
    return saved_optimizer("of this network", network="Sequential", tensors=tensors, **FEATURES | choices)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
def test_features_are_the_averaged_inputs_of_every_kind_of_layer(kind, dims):
    net = network(kind, dims)
    x = image(dims, size=8, n=3)
    shadow = Shadow(net, "softmax", NormAffine(), "window")
    logits, features = logits_and_features(shadow, x)
    assert features.shape == (3, 8) and torch.equal(logits, shadow(x))
    torch.testing.assert_close(features[:, :4], net[0](x).flatten(2).mean(2), rtol=1e-4, atol=1e-5)
    assert not any(m._forward_pre_hooks for m in shadow.module.modules())
    loss = MGG(optimizer=Learned(file=of(net))).loss(shadow, x)
    assert all(g is not None for g in torch.autograd.grad(loss, shadow.moving))


def test_channels_of_a_transformers_layers_lie_last():
    net = torch.nn.Sequential(torch.nn.Conv1d(1, 5, 1), torch.nn.Flatten(1, 1), Transposed(), torch.nn.LayerNorm(5))
    x = torch.randn(3, 1, 7)
    shadow = Shadow(net, "softmax", NormAffine())
    torch.testing.assert_close(logits_and_features(shadow, x)[1], net[0](x).mean(2))


class Transposed(torch.nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_a_case_adapts_on_windows_together_and_says_so():
    net = network()
    run = inferer(MGG(optimizer=Learned(file=of(net), lr=0.05), steps=2))
    run(image(), net)
    (case,) = run.cases
    assert case.reason is None and case.n_windows == 4
    assert [step.notes for step in case.steps] == [{"windows in deviations": 4.0}] * 2


def test_one_window_leaves_deviations_out_and_says_so():
    net = network()
    run = inferer(MGG(optimizer=Learned(file=of(net), lr=0.05)), budget=1)
    run(image(), net)
    assert run.cases[0].reason is None and run.cases[0].steps[0].notes == {"windows in deviations": 0.0}
    far = inferer(MGG(optimizer=Learned(file=of(net, feature_std=torch.full((8,), 99.0)), lr=0.05)), budget=1)
    far(image(), net)
    assert far.cases[0].steps[0].losses == run.cases[0].steps[0].losses


def test_windows_are_compared_together_however_few_go_at_once():
    net, x = network(), image(size=8, n=3)
    method = MGG(optimizer=Learned(file=of(net)))
    losses = []
    for voxels in (None, 0):
        shadow = method.begin(net, "softmax")
        shadow.voxels_at_once = voxels
        (step,) = method.adapt(shadow, x, method.loss)
        losses.append(step.losses["loss"])
        assert shadow.voxels_at_once == voxels
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (MGG(), "no learned optimiser lies beside this network's weights"),
        (MGG(optimizer=Adam()), "without a learned optimiser MGG needs source_file, or discrepancy=0"),
        (MGG(optimizer=Learned(file=saved_optimizer("x", tensors="x", network="Other"))), "other tensors, of a Other"),
        (MGG(optimizer=Learned(file=saved_optimizer("y"))), "statistics of 0 features, and this Sequential has 8"),
        (Tent(optimizer=Learned(file="nowhere/file.npz")), "file.npz does not exist"),
    ],
)
def test_what_it_lacks_is_the_reason_and_the_source_answers(method, said):
    net = network()
    run = inferer(method)
    with pytest.warns(UserWarning, match="without adaptation"):
        answer = run(image(), net)
    assert said in run.cases[0].reason and "nowhere" not in run.cases[0].reason
    assert run.cases[0].weight_distance == 0 and answer.isfinite().all()


def test_any_optimiser_goes_down_its_loss_and_any_method_takes_the_learned_one():
    net, file = network(), of(network())
    run = inferer(MGG(optimizer=SGD(lr=1e-3, momentum=0.0), source_file=file, steps=3))
    run(image(), net)
    losses = [step.losses["loss"] for step in run.cases[0].steps]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[2]
    for method in (Tent(optimizer=Learned(file=file)), GraTa(optimizer=Learned(file=file))):
        run = inferer(method)
        run(image(), net)
        assert run.cases[0].reason is None and run.cases[0].weight_distance > 0
    with pytest.raises(CannotAdapt, match="other tensors"):
        replace(method, select=Everything()).begin(net, "softmax")


def test_records_hold_no_folder_and_files_are_listed():
    method = MGG(optimizer=Learned(file="patients/a.npz"), source_file="patients/b.npz")
    assert method.files == (Path("patients/a.npz"), Path("patients/b.npz"))
    grata = GraTa(optimizer=Learned(file="patients/a.npz"))
    careful = Careful(predictor=saved_stump("c"), candidates=(Statistics(), grata))
    for made, name in ((method, "b.npz"), (grata, "a.npz"), (careful, "a.npz")):
        assert "patients" not in made.record_name and name in made.record_name
        assert Path("patients/a.npz") in made.files
    assert Tent().record_name == repr(Tent()) and Tent().files == ()


def test_for_checkpoint_finds_both_files(tmp_path):
    weights = tmp_path / "model_b.pt"
    file = tmp_path / "learned_optimizer_model_b.npz"
    file.write_bytes(Path(of(network())).read_bytes())
    assert MGG().for_checkpoint(weights) == MGG(optimizer=Learned(file=str(file)))
    given = MGG(optimizer=Adam(), source_file="auto")
    assert given.files == () and given.for_checkpoint(weights) == replace(given, source_file=str(file))
    careful = Careful(candidates=(Statistics(), Tent(optimizer=Learned())))
    assert careful.for_checkpoint(weights).candidates[1] == Tent(optimizer=Learned(file=str(file)))


@pytest.mark.parametrize("bundle", ["hippocampus_mri", "vessel_fundus"])
def test_a_shipped_file_belongs_to_its_checkpoint_and_is_found(bundle):
    job = CostJob(BUNDLES / bundle, MGG(), None)
    (file,) = job.method.files
    assert file == BUNDLES / bundle / "models" / "learned_optimizer.npz" and file.stat().st_size < 20_000
    shadow = job.method.begin(job.source.network, "softmax")
    size = (2, *job.image.shape[1:2], *[32] * (job.image.ndim - 2))
    (step,) = job.method.adapt(shadow, torch.rand(size, generator=torch.Generator().manual_seed(0)), job.method.loss)
    assert step.losses["loss"] > 0 and shadow.weight_distance > 0
    assert ComparisonPlan(root=BUNDLES / bundle, dataset_dir=Path(".")).settings()["checkpoints"].keys() >= {
        "model.pt",
        "learned_optimizer.npz",
    }
    with pytest.raises(CannotAdapt, match="other tensors, of a UNet"):
        job.method.begin(load_bundle(BUNDLES / "abdomen_ct").network, "softmax")


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="discrepancy is a weight, 0 or more"):
        MGG(discrepancy=-1)
