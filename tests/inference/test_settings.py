"""The choices of `AdaptiveInferer`: meaningless ones are refused, and the budget is the method's unless given."""

import dataclasses

import pytest

from monai_tta import AdaptiveInferer, Careful, GraTa, Statistics, Tent
from monai_tta.core.wrapper import Wrapper
from tests.small import TENT, image, network, run


@pytest.mark.parametrize(
    "choice, said",
    [
        ({"head": "relu"}, "head"),
        ({"learn": "volume", "reset": "window"}, "learn='window'"),
        ({"learn": "window", "method": GraTa(statistics="volume")}, "learn='volume'"),
        ({"budget": 0}, "budget"),
        ({"method": "grata"}, "'grata'"),
    ],
)
def test_meaningless_choices_are_refused_in_the_constructor(choice, said):
    with pytest.raises(ValueError, match=said):
        AdaptiveInferer(8, **choice)


@pytest.mark.parametrize("build", [lambda: Statistics(blend=2), lambda: GraTa(statistics="mine"), lambda: Tent(steps=-1)])
def test_meaningless_methods_are_refused(build):
    with pytest.raises(ValueError, match="found"):
        build()


def test_the_budget_is_the_methods_unless_given():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Around(Wrapper):
        """Wrapped, 2026."""

    pooled = Statistics(statistics="volume")
    for method, wanted in (
        (GraTa(), 1),
        (pooled, 4),
        (GraTa(statistics="volume"), 4),
        (Careful(), 4),
        (Around(inner=Careful()), 4),
    ):
        assert AdaptiveInferer(8, method=method).settings.n_adaptation_windows == wanted
        assert AdaptiveInferer(8, method=method, budget=3).settings.n_adaptation_windows == 3
        assert AdaptiveInferer(8, method=method, budget=None).settings.n_adaptation_windows is None
    _, case = run(network(), TENT, image(size=20))
    assert case.n_windows == case.budget == 1
    with pytest.raises(ValueError, match="or 'auto'; found 'many'"):
        AdaptiveInferer(8, budget="many")
