"""Training a learned optimiser: without labels, reproducible, and better at its task than before."""

from dataclasses import replace

import pytest
import torch
from monai.data import MetaTensor

from monai_tta import MGG, LastBiases, Learned
from monai_tta.core.learned_optimizer import LearnedOptimizer, digest_of, empty_memory, propose, untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.shadow import Shadow
from monai_tta.methods.mgg import feature_loss
from monai_tta.preparation.optimizer_trainer import OptimizerTrainer
from monai_tta.preparation.train_optimizer import OptimizerTraining, train_network_optimizer
from tests.small import image, inferer, network, same, state

QUICK = OptimizerTraining(size=6, epochs=2)


def images(n=3, dims=2, size=16):
    return [image(dims, size, seed=k)[0] for k in range(n)]


def test_what_is_trained_is_saved_and_used(tmp_path):
    net = network()
    before, rng = state(net), torch.get_rng_state()
    done = []
    trained = train_network_optimizer(
        net, images(dims=3), roi_size=8, settings=QUICK, progress=lambda *numbers: done.append(numbers)
    )
    assert done == [(k, 12) for k in range(1, 13)] and same(before, state(net)) and torch.equal(rng, torch.get_rng_state())
    assert trained.about["distorted images"] == 6 and trained.about["images"] == 3
    assert len(trained.about["mean loss of each epoch"]) == 2 and trained.feature_mean.shape == (8,)
    assert trained.feature_std.min() > 0
    trained.save(file := tmp_path / "learned_optimizer.npz")
    run = inferer(MGG(optimizer=Learned(file=str(file)), steps=2))
    run(image(), net)
    assert run.cases[0].reason is None and run.cases[0].weight_distance > 0


def test_the_same_seed_trains_the_same_whatever_the_mode_and_meta_data():
    some = train_network_optimizer(network(dims=2), images(), settings=QUICK)
    again = train_network_optimizer(network(dims=2).train(), [MetaTensor(x) for x in images()], settings=QUICK)
    other = train_network_optimizer(network(dims=2), images(), settings=replace(QUICK, seed=1))
    assert all(torch.equal(some.weights[name], again.weights[name]) for name in some.weights)
    assert not all(torch.equal(some.weights[name], other.weights[name]) for name in some.weights)
    assert some.tensors == other.tensors == digest_of(Shadow(network(dims=2), "softmax", MGG().select).start)


def test_the_credit_of_a_step_is_the_next_loss():
    """The gradient that Adam gets is the one of the next batch's loss with respect to the weights, by finite differences."""
    net = network(dims=2).double()
    one, two = (image(2, 8, seed=k, n=2).double() for k in (1, 2))
    settings = OptimizerTraining(lr=0.5, memory_lr=0.0, method=MGG(discrepancy=0.4))
    source = TrainedOptimizer(untrained_weights(3), feature_mean=torch.zeros(8), feature_std=torch.ones(8))
    trainer = OptimizerTrainer(Shadow(net, "softmax", MGG().select, "window"), source, settings)
    list(trainer._epoch([one, two]))

    def loss_after(weights):
        shadow = Shadow(net, "softmax", MGG().select, "window")
        _, gradient = shadow.gradient(lambda s, x: feature_loss(s, x, source, 0.4), one)
        for tensor, part in zip(shadow.moving, gradient, strict=True):
            flat = part.flatten().float()
            direction, _ = propose(weights, empty_memory(weights, flat), flat)
            with torch.no_grad():
                tensor.sub_(0.5 * direction.view(tensor.shape))
        return float(feature_loss(shadow, two, source, 0.4).detach())

    for name in ("output", "query", "outer_shift"):
        step = torch.zeros_like(source.weights[name])
        step.view(-1)[3] = 1e-3
        up, down = (loss_after(dict(source.weights) | {name: source.weights[name] + sign * step}) for sign in (1, -1))
        assert float(trainer.weights[name].grad.flatten()[3]) == pytest.approx((up - down) / 2e-3, rel=0.02, abs=1e-5)


def test_training_makes_steps_that_lower_the_loss():
    net = network(dims=2)
    settings = OptimizerTraining(size=8, epochs=12)
    trained = train_network_optimizer(net, images(4), settings=settings)
    x = image(2, 16, seed=9, n=4)

    def change(weights):
        shadow = Shadow(net, "softmax", MGG().select, "window")
        shadow.optimizer = LearnedOptimizer(shadow.moving, weights, lr=0.01)

        def loss(s, windows):
            return feature_loss(s, windows, trained, 0.4)

        before, _ = shadow.gradient(loss, x)
        for _ in range(4):
            _, gradient = shadow.gradient(loss, x)
            shadow.step_along(gradient)
        return shadow.gradient(loss, x)[0] - before

    assert change(trained.weights) < 0


def test_each_epoch_starts_from_the_source():
    net = network(dims=2)
    source = TrainedOptimizer(untrained_weights(0), feature_mean=torch.zeros(8), feature_std=torch.ones(8))
    shadow = Shadow(net, "softmax", MGG().select, "window")
    trainer = OptimizerTrainer(shadow, source, replace(QUICK, lr=0.1, memory_lr=0.0))
    batches = [image(2, 8, seed=k, n=2) for k in range(3)]
    first, second = list(trainer._epoch(batches)), list(trainer._epoch(batches))
    assert first == second and shadow.weight_distance > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "give at least one image"), ([torch.zeros(1, 8, 8)], "none of 1 images can be adapted on")],
)
def test_images_that_teach_nothing_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        train_network_optimizer(network(dims=2), given, settings=QUICK)


def test_one_image_without_many_windows_has_no_deviations():
    trained = train_network_optimizer(network(dims=2), images(1), settings=replace(QUICK, size=1, epochs=1))
    assert torch.equal(trained.feature_std, torch.zeros(8))


def test_other_tensors_can_be_trained_for():
    method = MGG(select=LastBiases())
    trained = train_network_optimizer(network(dims=2), images(), settings=replace(QUICK, method=method))
    assert trained.about["selected"] == "LastBiases()"


@pytest.mark.parametrize("name", ["images", "size", "epochs", "windows"])
def test_nothing_is_not_a_number_of_steps(name):
    with pytest.raises(ValueError, match=f"{name} is 1 or more, found 0"):
        OptimizerTraining(**{name: 0})
