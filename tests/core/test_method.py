"""The contract of a method: what a wrapper passes on, and how a candidate must describe itself."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from monai_tta import Careful, ChoosePrompt, Statistics, Tent
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.wrapper import Wrapper, pass_on
from monai_tta.quality.features import CANDIDATE_FEATURES
from tests.small import ROWS

WRAPPED = ("for_checkpoint", "record_name", "with_lr")  # these put the wrapper around what the inner method returns
PASSED_ON = [name for name in vars(AdaptationMethod) if not name.startswith("_") and name not in WRAPPED]
ARGUMENTS = {"begin": 2, "loss": 2, "adapt": 3, "predict": 2, "consolidate": 2, "answer_in_views": 3, "single_answers": 3}


def is_property(name):
    return isinstance(vars(AdaptationMethod)[name], property)


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_wrapper_passes_every_member_on(name):
    calls = []
    member = property(lambda self: calls.append(name)) if is_property(name) else lambda self, *args: calls.append(name)
    wrapper = Wrapper(inner=type("Recording", (Statistics,), {name: member})())
    value = getattr(wrapper, name)
    if not is_property(name):
        value(*[None] * ARGUMENTS[name])
    assert calls == [name]


def test_a_wrapper_is_put_around_the_inner_methods_checkpoint_and_name():
    class Inner(Statistics):
        record_name = property(lambda self: "the inner method")

        def for_checkpoint(self, weights):
            return replace(self, blend=0.7)

    wrapper = Wrapper(inner=Inner())
    assert wrapper.for_checkpoint(Path("model.pt")).inner.blend == 0.7
    assert wrapper.record_name == "Wrapper(inner=the inner method)"
    assert Wrapper(inner=Tent()).with_lr(0.5) == Wrapper(inner=Tent().with_lr(0.5))


def test_a_member_added_to_the_contract_is_passed_on():
    class Contract(AdaptationMethod):
        @property
        def added_property(self):
            return "the default"

        def added_method(self, value):
            return "the default"

    @pass_on(Contract)
    @dataclass(frozen=True, kw_only=True)
    class Around(Wrapper):
        """A wrapper for a larger contract."""

    class Inner(Tent):
        added_property = property(lambda self: "the inner method's")

        def added_method(self, value):
            return value

    around = Around(inner=Inner())
    assert around.added_property == "the inner method's" and around.added_method(3) == 3


def test_a_wrapper_overrides_members_and_reaches_the_inner_method_by_super():
    @dataclass(frozen=True, kw_only=True)
    class Twice(Wrapper):
        """Doubles what the inner method returns."""

        @property
        def default_budget(self):
            return 2 * super().default_budget

        def loss(self, shadow, windows):
            return 2 * super().loss(shadow, windows)

    class One(Statistics):
        def loss(self, shadow, windows):
            return 1.0

    twice = Twice(inner=One(statistics="volume"))
    assert twice.default_budget == 8 and twice.loss(None, None) == 2 and twice.pools_statistics


@pytest.mark.parametrize("row", ROWS)
def test_a_method_describes_itself_to_gain_predictors_or_refuses(row):
    method = ROWS[row]
    if type(method).candidate_features is AdaptationMethod.candidate_features or isinstance(method, ChoosePrompt):
        with pytest.raises(NotImplementedError, match="cannot be a candidate"):
            dict(method.candidate_features)
    else:
        assert set(method.candidate_features) <= set(CANDIDATE_FEATURES)


def test_a_candidate_that_does_not_describe_itself_is_refused_at_once():
    class Undescribed(Statistics):
        candidate_features = AdaptationMethod.candidate_features

    with pytest.raises(NotImplementedError, match="Undescribed cannot be a candidate"):
        Careful(candidates=(Statistics(blend=0.0), Undescribed()))


def test_a_candidate_with_unknown_features_is_refused_at_once():
    class Odd(Statistics):
        candidate_features = {"charm": 1.0}

    with pytest.raises(ValueError, match="charm"):
        Careful(candidates=(Statistics(blend=0.0), Odd()))
