"""Methods against their papers in plain code (tests/reference), in float64."""

import copy

import pytest
import torch
from torch import nn

from monai_tta import (
    DGTTA,
    DLTTA,
    DUA,
    EATA,
    MEMO,
    MGG,
    SAR,
    STAG,
    VPTTA,
    AdaptiveInferer,
    Added,
    BlendAverage,
    ChoosePrompt,
    Consistency,
    CoTTA,
    GraTa,
    InTEnt,
    MaskedContextTask,
    MuVi,
    Prompt,
    Rehearsal,
    SicTTA,
    SourceLook,
    Statistics,
    Tent,
    TowardSource,
    ViewAverage,
)
from monai_tta.core.learned_optimizer import LearnedOptimizer, untrained_weights
from monai_tta.core.learned_optimizer_file import TrainedOptimizer
from monai_tta.core.network_copy import network_digest
from monai_tta.core.objectives import weighted_cross_entropy
from monai_tta.core.optimizers import SGD, Adam, AdamW, Learned
from monai_tta.core.stored_features import StoredFeatures
from monai_tta.core.tasks import ConsistencyTask
from monai_tta.preparation.fisher import fisher_information
from monai_tta.transforms.scribbles import ScribbleToSoftLabel
from tests.promptable import TaskPrompted
from tests.reference.added import added_steps
from tests.reference.choose_prompt import least_entropy_prompt
from tests.reference.consistency import consistency_step
from tests.reference.cotta import confidence, cotta_stream
from tests.reference.dgtta import dgtta_step
from tests.reference.dltta import dltta_stream
from tests.reference.dua import dua_answers
from tests.reference.eata import eata_step, fisher_diagonal
from tests.reference.grata import grata_step
from tests.reference.intent import intent_answer
from tests.reference.maco import blanked, drawn_patches, masked_step, patch_chances, soft_labels, weighted_loss
from tests.reference.memo import memo_step
from tests.reference.mgg import mgg_loss, mgg_steps
from tests.reference.muvi import muvi_step
from tests.reference.rehearsal import rehearsal_steps
from tests.reference.sar import reliable_entropy, sar_step
from tests.reference.sictta import sictta_answers
from tests.reference.stag import stag_step
from tests.reference.statistics import blended_answer
from tests.reference.tent import tent_step
from tests.reference.toward_source import moved_amplitudes, moved_moments
from tests.reference.vptta import bank_start, forward, prompted, vptta_step

LR = 0.01


def restyled(windows, seeds=()):
    """A restyling without random draws, so that both sides get the same."""
    return (windows * 1.3 - 0.2).tanh()


TASK = ConsistencyTask(restyling=restyled)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.Tanh(),
            nn.Conv2d(5, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 2, 1),
        ).double()
        for layer in (net[1], net[4]):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return net.eval()


def with_window_statistics(net):
    """A copy of the network that normalises by the batch it sees, and its scales and shifts."""
    copied = copy.deepcopy(net)
    norms = [layer for layer in copied if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.train()
        layer.momentum = 0.0
    return copied, [tensor for layer in norms for tensor in (layer.weight, layer.bias)]


def window():
    return torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def adapted(method):
    """The answer of a method, and the record."""
    run = AdaptiveInferer(12, method=method, head="sigmoid")
    return run(window(), network()), run.cases[-1]


def test_grata():
    net, affine = with_window_statistics(network())
    x = window()
    cosine = grata_step(net, affine, x, restyled(x), LR)
    answer, case = adapted(GraTa(pseudo=TASK, optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(x).detach(), rtol=1e-7, atol=1e-7)
    assert case.steps[0].cosine == pytest.approx(cosine, abs=1e-7)
    assert case.steps[0].lr == pytest.approx(LR * (cosine + 1) ** 2 / 4)


def test_tent():
    net, affine = with_window_statistics(network())
    tent_step(net, affine, window(), LR)
    answer, _ = adapted(Tent(optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(window()).detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["lora", "adapter"])
def test_added_parameters(kind):
    net, _ = with_window_statistics(network())
    expected = added_steps(net, window(), rank=2, seed=5, kind=kind, lr=LR, steps=3)
    answer, case = adapted(Tent(select=Added(kind=kind, rank=2, seed=5), optimizer=Adam(lr=LR), steps=3))
    torch.testing.assert_close(answer, expected, rtol=1e-7, atol=1e-7)
    assert (answer - net(window())).abs().max() > 0.01 and case.n_moving == (164 if kind == "lora" else 52)


def test_consistency():
    net, affine = with_window_statistics(network())
    consistency_step(net, affine, window(), restyled(window()), LR)
    answer, _ = adapted(Consistency(objective=TASK, optimizer=Adam(lr=LR)))
    torch.testing.assert_close(answer, net(window()).detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_statistics(blend):
    answer, _ = adapted(Statistics(blend=blend))
    torch.testing.assert_close(answer, blended_answer(network(), window(), blend).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", ["moments", "amplitudes"])
@pytest.mark.parametrize("background", [False, True])
def test_toward_source(change, background):
    look = SourceLook((0.3, -0.2), (1.5, 0.4), ((4.0, 3.0, 2.0, 2.0, 0.5, 0.3), (1.0,) * 6))
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    if background:
        x[..., :12] = 9.0
    body = (x != 9.0).any(1, keepdim=True).numpy()
    if change == "moments":
        moved = moved_moments(x.numpy(), body, look.means, look.stds, 0.5)
    else:
        moved = moved_amplitudes(x.numpy(), body, look.amplitudes, 0.5)
    expected = network()(torch.from_numpy(moved)).detach()
    answer = AdaptiveInferer(32, method=TowardSource(change=change, look=look), head="sigmoid")(x, network())
    torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-5)
    assert (answer - network()(x)).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(12, 12), (13, 18)])
def test_vptta(shape):
    net = network()
    x = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 1
    size = [2 * (side // 6) + 1 for side in shape]
    logits, loss, prompt = vptta_step(net, x, size, LR)
    run = AdaptiveInferer(
        shape, method=VPTTA(select=Prompt(wavelength=6.0), optimizer=Adam(lr=LR, betas=(0.9, 0.99))), head="sigmoid"
    )
    torch.testing.assert_close(run(x, net), logits, rtol=1e-7, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9)
    assert run.cases[-1].weight_distance == pytest.approx(float((prompt - 1).norm()), rel=1e-9)


def test_vptta_starts_from_the_prompts_of_similar_images():
    net = network()
    images = torch.randn(5, 1, 2, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 1
    method = VPTTA(select=Prompt(frequencies=1), neighbors=3, optimizer=SGD(lr=0.5, momentum=0.0))
    run = AdaptiveInferer(12, method=method, head="sigmoid", reset="never")
    bank = []
    for number, x in enumerate(images, 1):
        start, key = bank_start(bank, x, (3, 3), 3)
        prompt = start.clone().requires_grad_()
        _, loss = forward(net, prompted(x, prompt), 1 / (number**0.5 / 5 + 1))
        prompt = (prompt - 0.5 * torch.autograd.grad(loss, prompt)[0]).detach()
        bank.append((key, prompt))
        torch.testing.assert_close(run(x, net), forward(net, prompted(x, prompt), 1 / (number**0.5 / 5 + 1))[0].detach())
    assert not torch.equal(start, torch.ones_like(start))


def test_rehearsal(tmp_path):
    source = network()
    net, affine = with_window_statistics(source)
    draw = torch.Generator().manual_seed(6)
    numbers = {"1": (4, 5, 6, 6), "4": (4, 6, 6, 6)}
    made = {name: torch.randn(shape, generator=draw) for name, shape in numbers.items()}
    StoredFeatures(made, network_digest(source)).save(tmp_path / "rehearsal.npz")
    stored = {int(name): part.double() for name, part in StoredFeatures.load(tmp_path / "rehearsal.npz").units.items()}
    pairs = []
    for seed in (1, 2, 3):  # the first draws of a shadow whose seed is 0
        draw = torch.Generator().manual_seed(seed)
        pairs.append((torch.rand(4, generator=draw).double(), torch.randperm(4, generator=draw)))
    losses = rehearsal_steps(net, source, affine, window(), stored, pairs, 20.0, LR)
    inner = Tent(optimizer=Adam(lr=LR), steps=3)
    answer, case = adapted(Rehearsal(inner=inner, file=str(tmp_path / "rehearsal.npz"), weight=20.0))
    torch.testing.assert_close(answer, net(window()).detach(), rtol=1e-7, atol=1e-7)
    assert [step.losses["loss"] for step in case.steps] == pytest.approx(losses, rel=1e-7)
    assert not torch.allclose(answer, adapted(inner)[0], rtol=1e-3)


def test_choose_prompt():
    net = TaskPrompted(levels=(1.0, 0.6, 0.3)).double()
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best, figures = least_entropy_prompt(net, x, (0, 1, 2))
    run = AdaptiveInferer(method=ChoosePrompt(name="task_id", candidates=(0, 1, 2), metric="entropy"), head="sigmoid")
    torch.testing.assert_close(run(x, net), net(x, task_id=best).detach())
    notes = run.cases[-1].steps[0].notes
    assert best == notes["chosen task_id"] == 2
    assert [notes[f"entropy, task_id={k}"] for k in range(3)] == pytest.approx(figures, rel=1e-9)


def odd_weights():
    """Weights of a learned optimiser, none of them at a special value."""
    generator = torch.Generator().manual_seed(6)
    weights = {name: torch.randn(w.shape, generator=generator) for name, w in untrained_weights(0).items()}
    return weights | {"rate_offset": torch.tensor(0.7)}


def test_mgg_moves_each_number_as_the_paper_says():
    weights = odd_weights()
    exact = {name: w.double() for name, w in weights.items()}
    gradients = torch.randn(5, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    gradients *= torch.tensor([1e-6, 1e-3, 1.0, 1.0, 1e3, 1.0])
    gradients[2:4, 3] = 0
    gradients[:, 5] = 0
    tensor = torch.zeros(1, 2, 3, dtype=torch.float64)
    optimizer = LearnedOptimizer([tensor], weights, lr=LR)
    places = []
    for gradient in gradients:
        tensor.grad = gradient.view(1, 2, 3)
        optimizer.step()
        places.append(tensor.flatten().clone())
    expected = [mgg_steps(exact, [float(g) for g in gradients[:, k]], LR) for k in range(6)]
    torch.testing.assert_close(torch.stack(places).T, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert tensor.flatten()[:5].abs().min() > 0 and tensor.flatten()[5] == 0


@pytest.mark.parametrize("n_windows", [1, 3])
def test_mgg(n_windows, tmp_path):
    net = network()
    x = torch.randn(n_windows, 2, 12, 12, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    affine = [tensor for layer in (net[1], net[4]) for tensor in (layer.weight, layer.bias)]
    generator = torch.Generator().manual_seed(9)
    mean, std = torch.randn(11, generator=generator), torch.rand(11, generator=generator)
    file = tmp_path / "learned.npz"
    weights = odd_weights()
    TrainedOptimizer(weights, feature_mean=mean, feature_std=std).save(file)
    shadow = (method := MGG(optimizer=Learned(file=str(file), lr=LR), steps=3)).begin(net, "sigmoid")
    optimizer = LearnedOptimizer(affine, weights, lr=LR)
    losses = []
    for _ in range(3):
        # A single window has no deviation: as if there were two alike, and a source without any.
        seen, deviation = (x, std.double()) if n_windows > 1 else (x.repeat(2, 1, 1, 1), std.double() * 0)
        loss = mgg_loss(net, seen, mean.double(), deviation, 0.4)
        losses.append(float(loss.detach()))
        for tensor, gradient in zip(affine, torch.autograd.grad(loss, affine), strict=True):
            tensor.grad = gradient
        optimizer.step()
    steps = method.adapt(shadow, x, method.loss)
    assert [step.losses["loss"] for step in steps] == pytest.approx(losses, rel=1e-9)
    assert [step.notes["windows in deviations"] for step in steps] == [3 if n_windows > 1 else 0] * 3
    for moved, expected in zip(shadow.moving, affine, strict=True):
        torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("equal_classes", [True, False])
@pytest.mark.parametrize("reading", ["feature", "term", "row"])
def test_stag(reading, equal_classes):
    net = network()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net[-1] = nn.Conv2d(6, 4, 1).double().requires_grad_(False)
    run = AdaptiveInferer(
        12,
        method=STAG(inner=Tent(optimizer=Adam(lr=LR)), weight=0.7, reading=reading, equal_classes=equal_classes),
        head="softmax",
    )
    answer = run(window(), net)
    adapted_net, affine = with_window_statistics(net)
    loss = stag_step(adapted_net, affine, window(), LR, 0.7, reading, equal_classes)
    torch.testing.assert_close(answer, adapted_net(window()).detach(), rtol=1e-7, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("statistics", ["volume", "window"])
@pytest.mark.parametrize("balanced", [True, False])
def test_intent_and_its_control(balanced, statistics):
    expected, weights, plain = intent_answer(network(), window(), balanced)
    answer, case = adapted(InTEnt(balanced=balanced, statistics=statistics))
    torch.testing.assert_close(answer.sigmoid(), expected.detach(), rtol=1e-7, atol=1e-7)
    assert list(case.steps[0].notes.values()) == pytest.approx(weights.tolist(), rel=1e-6)
    assert max(weights) - min(weights) > 0.1
    answer, _ = adapted(BlendAverage(statistics=statistics))
    torch.testing.assert_close(answer.sigmoid(), plain.detach(), rtol=1e-7, atol=1e-7)


def images(count=3):
    """A stream of images ``(1, 2, 12, 12)``."""
    return torch.randn(count, 1, 2, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 1


def test_dua():
    run = AdaptiveInferer(12, method=DUA(), head="sigmoid", reset="never")
    net = network()
    for x, expected in zip(images(), dua_answers(network(), images()), strict=True):
        torch.testing.assert_close(run(x, net), expected, rtol=1e-9, atol=1e-9)
    assert run.cases[-1].steps[0].notes["share of this image"] == pytest.approx(0.1 * 0.94**3 + 0.005)


@pytest.mark.parametrize("neighbors", [1, 2])
def test_dltta(neighbors):
    source = network()
    net, affine = with_window_statistics(source)
    stream = images(5) * torch.linspace(0.5, 2, 5, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    answers, rates = dltta_stream(net, affine, stream, neighbors, 0.5)
    run = AdaptiveInferer(
        12, method=DLTTA(optimizer=SGD(lr=0.5, momentum=0.0), neighbors=neighbors), head="sigmoid", reset="never"
    )
    for x, answer, rate in zip(stream, answers, rates, strict=True):
        torch.testing.assert_close(run(x, source), answer, rtol=1e-6, atol=1e-7)
        step = run.cases[-1].steps[0]
        assert step.lr == pytest.approx(rate, rel=1e-6) and step.notes.get("discrepancy", 1.0) == pytest.approx(
            rate / 0.5, rel=1e-6
        )
    assert rates[:neighbors] == [0.5] * neighbors and len(set(rates[neighbors:])) == 5 - neighbors


@pytest.mark.parametrize("blend", [1.0, 0.3])
def test_sictta(blend):
    net = network()
    run = AdaptiveInferer(12, method=SicTTA(blend=blend, neighbors=2), head="sigmoid", reset="never")
    for x, expected in zip(images(5), sictta_answers(network(), images(5), 2, blend), strict=True):
        torch.testing.assert_close(run(x, net), expected, rtol=1e-6, atol=1e-7)
    assert run.cases[-1].steps[0].notes["alike cases"] == 2


@pytest.mark.parametrize("longest", [0.1, 12.0])
def test_muvi(longest):
    source = louder(network())
    net, _ = with_window_statistics(source)
    parameters, (start, _) = list(net.parameters()), with_window_statistics(source)
    for tensor in parameters:
        tensor.requires_grad_()
    velocity, losses = [torch.zeros_like(tensor) for tensor in parameters], []
    for _ in range(2):
        loss, size = muvi_step(net, start, parameters, window(), velocity, LR, longest)
        losses.append(loss)
        assert (size > longest) == (longest < 1)
    method = MuVi(optimizer=SGD(lr=LR, momentum=0.99, nesterov=True), max_length=longest, steps=2)
    run = AdaptiveInferer(12, method=method, head="sigmoid")
    torch.testing.assert_close(run(window(), source), net(window()).detach(), rtol=1e-6, atol=1e-7)
    assert [step.losses["loss"] for step in run.cases[-1].steps] == pytest.approx(losses, rel=1e-7)


def test_dgtta():
    net, affine = with_window_statistics(network())
    loss = dgtta_step(net, affine, window(), (7 * 1_000_003 + 1, 7 * 1_000_003 + 2), LR, 0.1)  # what a shadow with seed 7 draws
    method = DGTTA(optimizer=AdamW(lr=LR), steps=1, deviation=0.1)
    run = AdaptiveInferer(12, method=method, head="sigmoid", seed=7)
    torch.testing.assert_close(run(window(), network()), net(window()).detach(), rtol=1e-6, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-7)


def test_memo():
    net = network()
    loss = memo_step(net, window(), restyled, LR, 1 / 17)
    answer, case = adapted(MEMO(optimizer=SGD(lr=LR, momentum=0.0), n_views=3, restyling=restyled))
    torch.testing.assert_close(answer, blended_answer(net, window(), 1 / 17).detach(), rtol=1e-6, atol=1e-7)
    assert case.steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9) and case.n_moving == 407


def test_sar():
    net, affine = with_window_statistics(sharp := louder(network()))
    velocity = [torch.zeros_like(tensor) for tensor in affine]
    run = AdaptiveInferer(12, method=SAR(optimizer=SGD(lr=0.5, momentum=0.9, nesterov=False)), head="sigmoid", reset="never")
    for x in images():
        _, kept = reliable_entropy(net, x)
        losses = sar_step(net, affine, x, velocity, 0.5)
        torch.testing.assert_close(run(x, sharp), net(x).detach(), rtol=1e-6, atol=1e-7)
        assert list(run.cases[-1].steps[0].losses.values()) == pytest.approx(losses, rel=1e-7)
        assert 0.1 < kept.double().mean() < 0.9 and not run.cases[-1].steps[0].notes["recovered"]


def louder(net):
    """A network of larger logits, with sure and unsure answers."""
    with torch.no_grad():
        net[6].weight.mul_(8)
    return net


def test_sar_recovers_once_where_its_average_falls_and_takes_no_step_where_nothing_is_reliable():
    net = louder(network())
    method = SAR(optimizer=SGD(lr=20.0, momentum=0.0), reset_below=0.8)
    shadow = method.begin(net, "sigmoid")
    noted = []
    for _ in range(12):
        (step,) = method.adapt(shadow, window(), method.loss)
        noted.append(step.notes["recovered"])
        assert shadow.weight_distance == 0 or not noted[-1]
        assert (shadow.average is None) == bool(noted[-1])
    assert noted == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    unsure = SAR(reliable=1e-9)
    shadow = unsure.begin(net, "sigmoid")
    unsure.adapt(shadow, window(), unsure.loss)
    assert shadow.weight_distance == 0 and shadow.average is None


@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_cotta(threshold):
    source = louder(network())
    stream = images()
    blended = BlendedBy(source)
    shapes = [tensor.shape for tensor in source.parameters()]
    restored = []
    for number, x in enumerate(stream):
        views = 2 if confidence(blended, x) < threshold else 0
        draw = torch.Generator().manual_seed(number * 1_000_003 + views + 1)
        restored.append([torch.rand(shape, generator=draw) < 0.3 for shape in shapes])
    expected = cotta_stream(blended, stream, restyled, threshold, 0.8, restored, 0.5)
    method = CoTTA(
        optimizer=SGD(lr=0.5, momentum=0.0), decay=0.8, restore=0.3, confidence=threshold, n_views=2, restyling=restyled
    )
    run = AdaptiveInferer(12, method=method, head="sigmoid", reset="never")
    for x, answer in zip(stream, expected, strict=True):
        torch.testing.assert_close(run(x, source), answer, rtol=1e-6, atol=1e-7)
    assert (run.cases[-1].weight_distance > 0.05) == (threshold > 0)  # where it is sure, the student has nothing to learn


class BlendedBy(nn.Module):
    """A network that normalises each image by its own statistics."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return blended_answer(self.net, x, 1.0)


@pytest.mark.parametrize("redundancy", [None, 0.99])
def test_eata(redundancy, tmp_path):
    source = louder(network())
    net, affine = with_window_statistics(source)
    fisher = fisher_diagonal(net, affine, images())
    information = fisher_information(source, list(images()), "sigmoid")
    for ours, expected in zip(information.values.values(), fisher, strict=True):
        torch.testing.assert_close(ours, expected.float())
    information.save(file := tmp_path / "fisher.npz")
    start, usual = [tensor.detach().clone() for tensor in affine], None
    optimizer = SGD(lr=0.5, momentum=0.0)
    method = EATA(optimizer=optimizer, redundancy=redundancy, file=str(file), fisher_weight=20.0)
    run = AdaptiveInferer(12, method=method, head="sigmoid", reset="never")
    fisher = [part.float().double() for part in fisher]
    for x in images():
        seen = usual if redundancy else None
        loss, usual = eata_step(net, affine, start, fisher, x, seen, 20.0, redundancy, 0.4, 0.5)
        torch.testing.assert_close(run(x, source), net(x).detach(), rtol=1e-6, atol=1e-7)
        assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-7)


def test_view_average():
    net = network()
    x = window()
    views = [(x, lambda y: y)]
    views += [(x.flip(axis), lambda y, axis=axis: y.flip(axis)) for axis in (2, 3)]
    views += [(x.rot90(turns, (2, 3)), lambda y, turns=turns: y.rot90(-turns, (2, 3))) for turns in (1, 2, 3)]
    mean = sum(undo(net(view).sigmoid()) for view, undo in views) / 6
    answer, _ = adapted(ViewAverage())
    torch.testing.assert_close(answer.sigmoid(), mean.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape, patch", [((12, 12), 4), ((13, 18), 5)])
def test_masked_context(shape, patch):
    x = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 1
    net, affine = with_window_statistics(network())
    seed = 7 * 1_000_003 + 1  # the first draw of a shadow with seed 7
    chances = patch_chances(net(x).sigmoid().detach(), patch, 3.0)
    uniform = torch.rand(chances.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    masked = blanked(x, drawn_patches(chances, round(0.3 * chances.numel()), uniform), patch)
    loss = masked_step(net, affine, x, masked, LR)
    task = MaskedContextTask(patch=patch, share=0.3, preference=3.0)
    run = AdaptiveInferer(shape, method=Consistency(objective=task, optimizer=Adam(lr=LR)), head="sigmoid", seed=7)
    torch.testing.assert_close(run(x, network()), net(x).detach(), rtol=1e-7, atol=1e-7)
    assert run.cases[-1].steps[0].losses["loss"] == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("shape, spacing", [((7, 9), (0.5, 2.0)), ((5, 6, 7), (1.0, 1.5, 3.0))])
def test_soft_labels_of_scribbles(shape, spacing):
    scribble = torch.full(shape, 9)
    for value, place in ((3, 0), (1, 2), (4, 4)):
        scribble[..., place, place] = value
        scribble[(place, *[place] * (len(shape) - 1))] = value
    label, weight = soft_labels(scribble, (1, 3, 4), 2.5, spacing)
    ours = ScribbleToSoftLabel((1, 3, 4), half_distance=2.5, unmarked=9, spacing=spacing)(scribble[None].float())
    torch.testing.assert_close(ours, (label.float(), weight.float()))
    logits = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = weighted_cross_entropy(logits, label[None], weight[None] / weight.mean(), "softmax")
    torch.testing.assert_close(loss, weighted_loss(logits, label[None], weight[None]))
