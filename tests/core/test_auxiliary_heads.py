"""The four objectives that need heads trained with the source network: in both roles of GraTa, and in training."""

import itertools

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.core.auxiliary_heads import attach_heads, heads_of, rotation_loss
from monai_tta.core.optimizers import Adam
from monai_tta.core.restyling import Restyling
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import (
    ConsistencyTask,
    DenoisingTask,
    EntropyTask,
    ReconstructionTask,
    RotationTask,
    SuperResolutionTask,
)
from monai_tta.core.views import Views
from monai_tta.preparation.train_heads import AuxiliaryHeadsHandler

TASKS = [
    EntropyTask(half=True),
    ConsistencyTask(restyling=Restyling("mri")),
    ReconstructionTask(),
    DenoisingTask(),
    SuperResolutionTask(),
    RotationTask(),
]
BOTTLENECK = "model.1.submodule"


def unet(dims=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(dims, 1, 2, (4, 8), (2,), num_res_units=1, norm="batch").eval()


def with_heads(dims=2, **choices):
    network = unet(dims)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return attach_heads(network, BOTTLENECK, features=8, in_channels=1, spatial_dims=dims, **choices).eval()


def image(dims=2, n=1, seed=0):
    return torch.rand(n, 1, *[16] * dims, generator=torch.Generator().manual_seed(seed))


def test_heads_do_not_change_the_answer():
    assert torch.equal(with_heads()(image()), unet()(image()))
    assert not any(m._forward_hooks for m in with_heads().modules())


@pytest.mark.parametrize(("auxiliary", "pseudo"), list(itertools.product(TASKS, TASKS)))
def test_each_pair_of_tasks_adapts_and_leaves_the_source_unchanged(auxiliary, pseudo):
    network, x = with_heads(), image()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    run = AdaptiveInferer(16, method=GraTa(auxiliary=auxiliary, pseudo=pseudo, optimizer=Adam(lr=0.01)), head="softmax")
    with torch.no_grad():
        answer = run(x, network)
    case = run.cases[-1]
    assert case.reason is None and case.weight_distance > 0 and answer.isfinite().all()
    assert -1.0001 <= case.steps[0].cosine <= 1.0001
    if auxiliary == pseudo and isinstance(auxiliary, ReconstructionTask):
        assert case.steps[0].cosine > 0
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("task", TASKS[2:])
def test_losses_in_3d_equal_their_formula(task):
    network, x = with_heads(3, bounded=False), image(3, n=2)
    shadow = Shadow(network, "softmax", None)
    shadow.seed(5)
    value = task(shadow, x)
    assert value.ndim == 0 and value.isfinite()
    heads = heads_of(network)
    if isinstance(task, RotationTask):
        return
    upsample = nn.Upsample(x.shape[2:], mode="trilinear")
    shown = x
    if isinstance(task, SuperResolutionTask):
        shown = nn.functional.avg_pool3d(x, 2)  # halving by trilinear sampling between voxels is the mean of eight
    if isinstance(task, DenoisingTask):
        shadow.seed(5)
        seeds = [shadow.draw(), shadow.draw()]
        shown = x + 0.1 * torch.stack([torch.randn(x[0].shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
    features = heads.features(network, shown)
    predicted = heads.to_image(upsample(nn.functional.leaky_relu(heads.to_hidden(features))))
    torch.testing.assert_close(value, ((predicted - x) ** 2).mean())


def test_the_pose_head_can_learn_to_predict_poses():
    network = with_heads()
    heads, x = heads_of(network), image_with_edges(n=6)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    seeds = range(6)
    first = rotation_loss(network, x, seeds)
    for _ in range(60):
        optimizer.zero_grad()
        loss = rotation_loss(network, x, seeds)
        loss.backward()
        optimizer.step()
    assert first > 1 and loss < 0.3 * first
    assert heads.pose.out_features == 6


def test_errors_say_what_is_wrong_and_what_to_do():
    with pytest.raises(ValueError, match="no submodule 'nowhere'"):
        attach_heads(unet(), "nowhere", features=8, in_channels=1, spatial_dims=2)
    with pytest.raises(ValueError, match="Sequential"):
        attach_heads(nn.Sequential(nn.Conv2d(1, 2, 1)), "0", features=2, in_channels=1, spatial_dims=2)
    run = AdaptiveInferer(16, method=GraTa(auxiliary=RotationTask()), head="softmax")
    with pytest.warns(UserWarning, match="UNet has no AuxiliaryHeads; put them on"):
        answer = run(image(), unet())
    assert torch.equal(answer, SlidingWindowInferer(16)(image(), unet()))
    oblong = AdaptiveInferer((16, 8), method=GraTa(auxiliary=RotationTask()), head="softmax")
    with pytest.warns(UserWarning, match=r"6 poses apart, a window of \(16, 8\) has 4"):
        oblong(image(), with_heads())
    square = AdaptiveInferer((16, 8), method=GraTa(auxiliary=RotationTask()), head="softmax")
    square(image(), with_heads(views=Views(turns=False)))
    assert square.cases[-1].reason is None


def image_with_edges(n=1, seed=0):
    """Images with a bright top and a bright left side, so that poses differ, and little noise."""
    x = 0.2 * image(n=n, seed=seed)
    x[:, :, :8] += 0.4
    x[:, :, :, :4] += 0.4
    return x


def train(handlers, epochs=8, network=None):
    network = network or with_heads()
    data = [{"image": image_with_edges(seed=k)[0], "label": (image(seed=k)[0] > 0.5).float()} for k in range(4)]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(data), batch_size=4),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.01),
        loss_function=lambda logits, label: nn.functional.cross_entropy(logits, label[:, 0].long()),
        inferer=SimpleInferer(),
        train_handlers=handlers,
    )
    trainer.run()
    return network


def test_the_handler_trains_the_heads():
    handler = AuxiliaryHeadsHandler(weight=1.0)
    untrained = train([], epochs=60).train()
    trained = train([handler], epochs=60).train()
    x = image_with_edges(n=6, seed=9)
    with torch.no_grad():
        assert handler.losses(trained, x, 0) < 0.8 * handler.losses(untrained, x, 0)
    assert torch.equal(heads_of(untrained).pose.weight, heads_of(with_heads()).pose.weight)


def test_the_handler_does_not_change_the_running_statistics():
    handler = AuxiliaryHeadsHandler()
    network = with_heads().train()
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(layer.running_mean.clone(), layer.running_var.clone(), layer.momentum) for layer in layers]
    handler.losses(network, image(n=4), 0)
    for layer, (mean, var, momentum) in zip(layers, before, strict=True):
        assert torch.equal(layer.running_mean, mean) and torch.equal(layer.running_var, var)
        assert layer.momentum == momentum > 0


def test_the_handler_refuses_a_network_without_heads():
    with pytest.raises(ValueError, match="UNet has no AuxiliaryHeads"):
        train([AuxiliaryHeadsHandler()], epochs=1, network=unet())
