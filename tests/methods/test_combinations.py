"""Methods inside methods: a plug-in around any method, with any selection, optimiser and task, and as a candidate of Careful."""

import pickle

import pytest
import torch

import monai_tta
from monai_tta import STAG, VPTTA, Added, Careful, Consistency, GraTa, MaskedContextTask, Rehearsal
from monai_tta.core.optimizers import Learned
from tests.small import BLENDED, CON, FAST, image, inferer, network, same, saved_features, saved_optimizer, saved_stump, state

LEARNED = Learned(file=saved_optimizer("of any network"), lr=0.05)
COMBINATIONS = {
    "STAG around VPTTA": STAG(inner=VPTTA(optimizer=FAST), weight=1.0, reading="row"),
    "Rehearsal around GraTa with a learned optimiser": Rehearsal(
        inner=GraTa(optimizer=LEARNED, pseudo=CON), file=saved_features(network())
    ),
    "added parameters under masked context": Consistency(select=Added(), optimizer=FAST, objective=MaskedContextTask()),
}
EACH = pytest.mark.parametrize("name", COMBINATIONS)


@EACH
def test_a_combination_adapts_and_leaves_the_source_alone(name):
    net, x = network(), image()
    before, generator = state(net), torch.get_rng_state()
    run = inferer(COMBINATIONS[name])
    answer = run(x, net)
    case = run.cases[-1]
    assert case.reason is None and case.weight_distance > 0
    assert same(before, state(net)) and torch.equal(generator, torch.get_rng_state())
    assert torch.equal(inferer(COMBINATIONS[name])(x, net), answer)


@EACH
def test_a_combination_is_a_value(name):
    method = COMBINATIONS[name]
    public = {name: getattr(monai_tta, name) for name in monai_tta.__all__}
    assert pickle.loads(pickle.dumps(method)) == method == eval(repr(method), public) and hash(method)


@EACH
def test_careful_takes_it_as_a_candidate(name):
    careful = Careful(predictor=saved_stump("hopeful of all", low=0.1, high=0.1), candidates=(*BLENDED, COMBINATIONS[name]))
    run = inferer(careful)
    run(image(), network())
    case = run.cases[-1]
    kept = [note for note in case.steps[0].notes if note != "expected gain"]
    assert case.reason is None and any("volume" not in note for note in kept), kept
