"""GraTa's variants, on problems of a few numbers whose answer is known."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from monai_tta import SGD, Everything, GraTa, LinearTrust
from monai_tta.core.gradient_agreement import mean_direction, without_conflict
from monai_tta.core.tasks import Task

STILL = torch.zeros(1, 1, 4, 4)


class Numbers(nn.Module):
    """A network of two numbers, in one layer or in two, that answers any window with their sum."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.first = nn.ParameterList([nn.Parameter(torch.zeros(3 - n_layers))])
        self.second = nn.ParameterList([nn.Parameter(torch.zeros(1))] if n_layers == 2 else [])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + sum(number.sum() for number in self.parameters())


@dataclass(frozen=True)
class Slope(Task):
    """A plane: its gradient is the same everywhere."""

    rise: tuple[float, float]

    def __call__(self, shadow, windows):
        return torch.cat(shadow.moving) @ torch.tensor(self.rise) + 0 * shadow(windows).sum()


@dataclass(frozen=True)
class Bowl(Task):
    """Half the squared distance from a place: its gradient at the numbers is where they are, less that place."""

    place: tuple[float, float]

    def __call__(self, shadow, windows):
        return ((torch.cat(shadow.moving) - torch.tensor(self.place)) ** 2).sum() / 2


def stepped(method, n_layers=1):
    """Where the two numbers are after one step from zero at a learning rate of 1, and the record."""
    shadow = method.begin(Numbers(n_layers), "sigmoid")
    (record,) = method.adapt(shadow, STILL, method.loss)
    return torch.cat(shadow.moving).tolist(), record


def variant(auxiliary, pseudo, **choices):
    plain = SGD(lr=1.0, momentum=0.0)
    return GraTa(select=Everything(), optimizer=plain, auxiliary=auxiliary, pseudo=pseudo, trust=LinearTrust(), **choices)


class TestProjection:
    def test_the_part_against_the_auxiliary_gradient_goes(self):
        """(-3, 4) on the plane orthogonal to (1, 0) is (0, 4). The cosine is -3/5, so the rate is 1/5."""
        moved, record = stepped(variant(Slope((1.0, 0.0)), Slope((-3.0, 4.0)), projected=True))
        assert moved == pytest.approx([0.0, -0.8]) and record.cosine == pytest.approx(-0.6)
        assert stepped(variant(Slope((1.0, 0.0)), Slope((-3.0, 4.0))))[0] == pytest.approx([0.6, -0.8])

    @pytest.mark.parametrize("auxiliary", [(1.0, 0.0), (2.0, -1.5), (0.0, 0.0)])
    def test_without_a_conflict_nothing_changes(self, auxiliary):
        """Cosines of 3/5, 0 and, for want of a direction, 0."""
        pair = Slope(auxiliary), Slope((3.0, 4.0))
        assert stepped(variant(*pair, projected=True)) == stepped(variant(*pair))

    def test_what_remains_is_orthogonal_to_the_other(self):
        gradient, other = [torch.tensor([1.0, -2.0]), None, torch.tensor([0.5])], [torch.tensor([-1.0, 3.0]), None, None]
        left = without_conflict(gradient, other, ["a", "a", "a"])
        assert float(left[0] @ other[0]) == pytest.approx(0, abs=1e-6) and left[1] is None and left[2] is gradient[2]


class TestPerLayer:
    def test_each_layer_has_its_own_cosine_and_rate(self):
        """The layers' cosines are 1 and -1, so their rates are 1 and 0; together it is -1/5 for lengths of 2 and 3."""
        pair = Slope((1.0, 1.0)), Slope((2.0, -3.0))
        moved, record = stepped(variant(*pair, per_layer=True), n_layers=2)
        assert moved == pytest.approx([-2.0, 0.0]) and record.lr == pytest.approx(0.5)
        cosine = -1 / (2**0.5 * 13**0.5)
        assert record.cosine == pytest.approx(cosine)
        as_one, record = stepped(variant(*pair), n_layers=2)
        assert as_one == pytest.approx([-2 * (cosine + 1) / 2, 3 * (cosine + 1) / 2]) and record.lr == pytest.approx(
            (cosine + 1) / 2
        )

    def test_one_layer_is_as_before(self):
        pair = Slope((1.0, 1.0)), Slope((2.0, -3.0))
        assert stepped(variant(*pair, per_layer=True)) == stepped(variant(*pair))

    def test_only_the_layer_in_conflict_is_projected(self):
        """Its cosine is -1, so nothing of it is left; the other layer moves at the full rate."""
        pair = Slope((1.0, 1.0)), Slope((2.0, -3.0))
        method = variant(*pair, per_layer=True, projected=True)
        assert stepped(method, n_layers=2)[0] == pytest.approx([-2.0, 0.0])


class TestSeveralAuxiliaries:
    def test_the_mean_of_the_unit_vectors_at_the_mean_length(self):
        """(0, 1) and (30, 0): half of each unit vector, times 15.5. The bowl's gradient there is (-7.75, -7.75), at cosine -1."""
        pair = Slope((0.0, 1.0)), Bowl((0.0, 0.0))
        moved, record = stepped(variant(*pair, more=(Slope((30.0, 0.0)),)))
        assert record.cosine == pytest.approx(-1.0) and moved == pytest.approx([0.0, 0.0])
        assert list(record.losses) == ["auxiliary", "auxiliary 2", "loss"]
        assert record.losses["loss"] == pytest.approx(7.75**2)

    def test_one_without_a_gradient_takes_no_part(self):
        pair = Slope((0.0, 1.0)), Bowl((1.0, 0.0))
        assert stepped(variant(*pair, more=(Slope((0.0, 0.0)),)))[0] == stepped(variant(*pair))[0]

    def test_a_tensor_that_takes_part_in_one_alone(self):
        a, b = [torch.tensor([2.0]), None, None], [None, torch.tensor([4.0]), None]
        first, second, third = mean_direction([a, b])
        assert (float(first), float(second), third) == (1.5, 1.5, None)


class TestNormalisedLookAhead:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
    def test_it_looks_as_far_whatever_the_auxiliary_losses_scale(self, scale):
        """2 along (3, 4)/5 from zero is (-1.2, -1.6), where the bowl around (1, 0) has the gradient (-2.2, -1.6)."""
        pair = Slope((3.0 * scale, 4.0 * scale)), Bowl((1.0, 0.0))
        moved, record = stepped(variant(*pair, look_ahead=2.0, normalized=True))
        cosine = (-2.2 * 0.6 - 1.6 * 0.8) / (2.2**2 + 1.6**2) ** 0.5
        assert record.cosine == pytest.approx(cosine, abs=1e-5)
        assert moved == pytest.approx([2.2 * (cosine + 1) / 2, 1.6 * (cosine + 1) / 2], abs=1e-5)

    def test_as_published_it_looks_as_far_as_the_gradient_is_long(self):
        _, record = stepped(variant(Slope((3.0, 4.0)), Bowl((1.0, 0.0))))
        assert record.losses["loss"] == pytest.approx((4.0**2 + 4.0**2) / 2)
