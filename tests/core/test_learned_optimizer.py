"""The learned optimiser as a torch optimiser, and its file."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_tta import Learned
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.learned_optimizer import (
    WEIGHT_SHAPES,
    LearnedOptimizer,
    digest_of,
    empty_memory,
    propose,
    untrained_weights,
)
from monai_tta.core.learned_optimizer_file import OptimizerFileError, TrainedOptimizer, file_for_checkpoint, optimizer_file
from tests.small import saved_optimizer


def shifted_weights(seed=0):
    """Weights with shifts, so that even a gradient of zero would move something."""
    weights = untrained_weights(seed)
    return weights | {"inner_shift": torch.linspace(-1, 1, 8), "outer_shift": torch.linspace(1, 2, 8)}


def stepped(tensors, gradients, optimizer):
    for gradient in gradients:
        for tensor, part in zip(tensors, gradient, strict=True):
            tensor.grad = part
        optimizer.step()
    return [tensor.clone() for tensor in tensors]


def gradients(n, shapes=((3, 2), (4,)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(n)]


def test_the_network_has_the_published_number_of_weights():
    assert sum(w.numel() for w in untrained_weights(0).values()) == 164
    assert {name: tuple(w.shape) for name, w in untrained_weights(3).items()} == WEIGHT_SHAPES


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3, 2, 2)])
def test_a_coordinate_moves_alike_in_a_tensor_of_any_shape(shape):
    together = torch.zeros(shape)
    each = [torch.zeros(1) for _ in range(together.numel())]
    whole, apart = LearnedOptimizer([together], shifted_weights()), LearnedOptimizer(each, shifted_weights())
    for (gradient,) in gradients(3, [shape]):
        together.grad = gradient
        for one, part in zip(each, gradient.flatten(), strict=True):
            one.grad = part.view(1)
        whole.step(), apart.step()
    torch.testing.assert_close(together.flatten(), torch.cat(each))
    assert 0 < together.abs().max() <= 3 * 1e-3


def test_a_step_is_at_most_the_rate_and_does_not_see_the_scale_of_the_loss():
    ends = []
    for scale in (1e-2, 1.0, 1e5):
        tensor = torch.zeros(100)
        pulls = [[scale * g[0]] for g in gradients(4, [(100,)])]
        ends += stepped([tensor], pulls, LearnedOptimizer([tensor], shifted_weights(), lr=0.5))
    assert 0 < ends[0].abs().max() < 4 * 0.5
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-2, atol=1e-3)  # where 1e-8 in the divisor counts
    torch.testing.assert_close(ends[2], ends[1], rtol=1e-3, atol=1e-4)


def test_a_zero_gradient_makes_no_step_while_the_memory_goes_on():
    tensor = torch.zeros(2)
    optimizer = LearnedOptimizer([tensor], shifted_weights(), lr=1.0)
    stepped([tensor], [[torch.zeros(2)]], optimizer)
    assert torch.equal(tensor, torch.zeros(2)) and optimizer.state[tensor]["step"] == 1
    after_one = stepped([tensor], [[torch.tensor([1.0, 2.0])]], optimizer)[0]
    stepped([tensor], [[torch.tensor([0.0, 2.0])]], optimizer)
    assert tensor[0] == after_one[0] and tensor[1] != after_one[1]
    assert optimizer.state[tensor]["mean"][0] == pytest.approx(0.09)


def test_without_the_mask_it_would_move():
    weights = shifted_weights()
    tiny = torch.tensor([1e-30], dtype=torch.float64)
    direction, _ = propose(weights, empty_memory(weights, tiny), tiny)
    assert direction.abs() > 0.1


def test_a_tensor_without_gradient_stays_and_has_no_memory():
    moved, still = torch.zeros(3), torch.zeros(3)
    optimizer = LearnedOptimizer([moved, still], shifted_weights())
    stepped([moved, still], [[torch.ones(3), None]], optimizer)
    assert moved.abs().min() > 0 and torch.equal(still, torch.zeros(3)) and still not in optimizer.state


@pytest.mark.parametrize("way", ["state_dict", "torch.save", "pickle"])
def test_a_saved_optimizer_goes_on_bit_for_bit(way, tmp_path):
    tensors = [torch.zeros(3, 2), torch.zeros(4)]
    optimizer = LearnedOptimizer(tensors, shifted_weights())
    stepped(tensors, gradients(3), optimizer)
    copies = [tensor.clone() for tensor in tensors]
    if way == "pickle":
        copies, resumed = pickle.loads(pickle.dumps((tensors, optimizer)))
    else:
        state = optimizer.state_dict()
        if way == "torch.save":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        resumed = LearnedOptimizer(copies, shifted_weights())
        resumed.load_state_dict(copy.deepcopy(state))
    further = gradients(2, seed=5)
    for a, b in zip(stepped(tensors, further, optimizer), stepped(copies, further, resumed), strict=True):
        assert torch.equal(a, b)
    fresh = [torch.zeros(3, 2), torch.zeros(4)]
    stepped(fresh, further, LearnedOptimizer(fresh, shifted_weights()))
    assert not torch.allclose(fresh[0], copies[0])


def test_a_state_of_another_learned_optimizer_is_refused():
    tensor = torch.zeros(2)
    state = LearnedOptimizer([tensor], untrained_weights(0)).state_dict()
    with pytest.raises(ValueError, match="of another learned optimiser"):
        LearnedOptimizer([tensor], untrained_weights(1)).load_state_dict(state)
    with pytest.raises(ValueError, match="or of none"):
        LearnedOptimizer([tensor], untrained_weights(1)).load_state_dict(torch.optim.SGD([tensor], 0.1).state_dict())


def test_tensors_in_half_precision_move():
    tensor = torch.zeros(4, dtype=torch.bfloat16)
    optimizer = LearnedOptimizer([tensor], untrained_weights(0), lr=0.1)
    stepped([tensor], [[torch.ones(4, dtype=torch.bfloat16)]], optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    stepped([tensor], [[torch.ones(4, dtype=torch.bfloat16)]], optimizer)
    assert tensor.dtype == torch.bfloat16 and tensor.abs().min() > 0


@pytest.mark.parametrize("name", ["query", "output"])
def test_weights_of_another_shape_are_refused(name):
    for wrong in (torch.zeros(3), torch.full(WEIGHT_SHAPES[name], float("nan"))):
        with pytest.raises(ValueError, match=f"{name}|finite"):
            LearnedOptimizer([torch.zeros(2)], untrained_weights(0) | {name: wrong})
    with pytest.raises(ValueError, match="lr is 0 or more"):
        LearnedOptimizer([torch.zeros(2)], untrained_weights(0), lr=-1)


class TestFile:
    def test_it_is_read_back(self, tmp_path):
        mean, std = torch.randn(5), torch.rand(5)
        made = TrainedOptimizer(untrained_weights(2), "UNet", "abc", mean, std, {"seed": 2})
        made.save(file := tmp_path / "a.npz")
        read = TrainedOptimizer.load(file)
        assert (read.network, read.tensors, read.about) == ("UNet", "abc", {"seed": 2})
        assert torch.equal(read.feature_mean, mean) and torch.equal(read.feature_std, std)
        assert all(torch.equal(w, made.weights[name]) for name, w in read.weights.items())
        assert file.stat().st_size < 8000 and [p.name for p in tmp_path.iterdir()] == ["a.npz"]

    def test_one_of_other_tensors_is_refused_in_words(self):
        tensors = [torch.arange(3.0), torch.ones(2, 2)]
        spec = Learned(file=saved_optimizer("of a unet", network="UNet", tensors=digest_of(tensors)), lr=0.1)
        assert spec.build(tensors).param_groups[0]["lr"] == 0.1
        others = ([torch.arange(3.0)], [torch.arange(3.0), torch.ones(4)], [torch.arange(3.0) + 1e-3, torch.ones(2, 2)])
        for other in others:
            with pytest.raises(
                CannotAdapt, match="of a unet.npz was trained for other tensors, of a UNet: give the file of this"
            ):
                spec.build(other)

    def test_damaged_files_are_refused_without_their_folder(self, tmp_path):
        good = Path(saved_optimizer("good")).read_bytes()
        for content in (b"", good[:100], pickle.dumps([1])):
            file = tmp_path / "bad.npz"
            file.write_bytes(content)
            with pytest.raises(CannotAdapt, match="^bad.npz cannot be read as a learned optimiser"):
                Learned(file=str(file)).build([torch.zeros(1)])
        with pytest.raises(CannotAdapt, match="^none.npz does not exist"):
            Learned(file=str(tmp_path / "none.npz")).build([torch.zeros(1)])

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"description": {"format": 99}}, "format 99, this version reads 1: make it again"),
            ({"query": np.zeros((3, 2), np.float32)}, "other weights than these: query"),
            ({"feature_std": np.zeros(2, np.float32)}, "do not fit each other"),
            ({"output": np.array([object()])}, "allow_pickle=False"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, said, tmp_path):
        with np.load(saved_optimizer("good")) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        if "description" in change:
            change = {"description": np.frombuffer(json.dumps(change["description"]).encode(), np.uint8)}
        np.savez(tmp_path / "odd.npz", **content | change)
        with pytest.raises(OptimizerFileError, match=said):
            TrainedOptimizer.load(tmp_path / "odd.npz")

    def test_auto_is_the_file_beside_the_weights(self, tmp_path):
        weights = tmp_path / "model.pt"
        assert Learned().for_checkpoint(weights) == Learned() and Learned().files == ()
        with pytest.raises(CannotAdapt, match="no learned optimiser lies beside this network's weights"):
            Learned().build([torch.zeros(1)])
        TrainedOptimizer(untrained_weights(0)).save(optimizer_file(weights))
        found = Learned(lr=0.5).for_checkpoint(weights)
        assert found == Learned(file=str(tmp_path / "learned_optimizer.npz"), lr=0.5)
        assert found.files == (tmp_path / "learned_optimizer.npz",)
        assert found.record_name == "Learned(file='learned_optimizer.npz', lr=0.5)"
        optimizer_file(weights).write_bytes(b"damaged")
        with pytest.raises(OptimizerFileError):
            file_for_checkpoint("auto", weights)
