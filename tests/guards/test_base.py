"""Every guard is a value, refuses meaningless choices, and can be composed."""

import copy
import pickle

import pytest
from monai.bundle import ConfigParser

from monai_tta import AdaptiveInferer, guards
from monai_tta.core import views
from monai_tta.core.views import Views
from monai_tta.guards import (
    Agreement,
    AllOf,
    Components,
    Distance,
    Entropy,
    Finite,
    Guard,
    Shape,
    ViewAgreement,
    VolumeChange,
    WeightDistance,
    reference_ranges,
    shape_features,
)
from tests.guards.example_evidence import REFERENCE, box_logits, evidence

GUARDS = [
    Finite(),
    VolumeChange(0.3),
    Agreement(0.4),
    ViewAgreement(0.2, Views(axes=(0,))),
    Entropy(most=0.3),
    Entropy(reference=REFERENCE, slack=2.0),
    Distance(most=2.0, least=0.1),
    Distance(reference=REFERENCE),
    WeightDistance(0.2),
    Components(2, small=3),
    Shape(REFERENCE),
    AllOf([Finite(), VolumeChange(0.3)]),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda v: type(v).__name__)
def test_a_guard_is_a_value(guard):
    assert pickle.loads(pickle.dumps(guard)) == guard == copy.deepcopy(guard) and hash(guard) == hash(copy.deepcopy(guard))
    names = {k: v for m in (guards, reference_ranges, shape_features, views) for k, v in vars(m).items()}
    assert eval(repr(guard), names) == guard
    with pytest.raises(AttributeError):
        guard.most = 3


@pytest.mark.parametrize(
    "build",
    [
        lambda: VolumeChange(2),
        lambda: Agreement(-1),
        lambda: ViewAgreement(3),
        lambda: WeightDistance(0),
        lambda: Components(0),
        lambda: Entropy(),
        lambda: Entropy(most=1, reference=REFERENCE),
        lambda: Distance(),
        lambda: AllOf([3]),
        lambda: Components(1.5),
        lambda: Entropy(most=float("nan")),
        lambda: Distance(most=float("nan")),
        lambda: Distance(least=-1),
        lambda: Shape("reference.json"),
        lambda: Shape(None),
        lambda: Shape(REFERENCE, slack=-1),
        lambda: AdaptiveInferer(8, guard="volume"),
        lambda: AdaptiveInferer(8, guard=VolumeChange),
    ],
)
def test_a_meaningless_choice_is_refused_with_what_was_found(build):
    with pytest.raises(ValueError, match="found"):
        build()


def test_guards_can_be_made_from_a_config():
    parser = ConfigParser(
        {
            "guard": {
                "_target_": "monai_tta.guards.AllOf",
                "guards": [
                    {"_target_": "monai_tta.guards.VolumeChange", "most": 0.3},
                    {"_target_": "monai_tta.guards.Entropy", "most": 0.5},
                ],
            }
        }
    )
    assert parser.get_parsed_content("guard") == AllOf([VolumeChange(0.3), Entropy(most=0.5)])


def test_all_of_checks_in_order_and_stops_at_the_first_reason():
    checked = []

    class Fixed(Guard):
        def __init__(self, reason):
            self.reason = reason

        def check(self, evidence):
            checked.append(self.reason)
            return self.reason

    assert AllOf([Fixed(None), Fixed("no"), Fixed("never")]).check(None) == "no" and checked == [None, "no"]
    assert AllOf([]).check(None) is None
    both = evidence(box_logits(), box_logits())
    assert AllOf([lambda unadapted, adapted, head: "a callable's"]).check(both) == "a callable's"
