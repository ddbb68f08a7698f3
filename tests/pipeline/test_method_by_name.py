"""Methods and the choices of a method, by name."""

import pytest

from monai_tta import (
    SGD,
    Adam,
    Biases,
    Careful,
    ConsistencyTask,
    EntropyTask,
    GraTa,
    LinearTrust,
    Matching,
    RandomSign,
    Restyling,
    Statistics,
    Tent,
    ViewAverage,
    Views,
    methods,
)
from monai_tta.pipeline.method_by_name import find_method_name, method_summaries, named_method


def test_summaries_are_the_first_sentences_of_the_exported_methods():
    found = method_summaries()
    assert list(found) == methods.__all__
    for name, summary in found.items():
        doc = " ".join(getattr(methods, name).__doc__.split())
        assert summary and doc.startswith(summary) and summary.endswith(".")


@pytest.mark.parametrize("name", ["view-average", "ViewAverage", "VIEW_AVERAGE", "viewaverage"])
def test_case_and_hyphens_of_a_method_do_not_matter(name):
    assert find_method_name(name) == "ViewAverage" and named_method(name) == ViewAverage()


def test_a_near_miss_is_suggested():
    with pytest.raises(ValueError, match=r"no method 'grataa'\. Did you mean 'grata'\? Choose one of: blendaverage, "):
        named_method("grataa")
    with pytest.raises(ValueError, match=r"no method 'xyzzy'\. Choose one of: blendaverage"):
        named_method("xyzzy")


@pytest.mark.parametrize(
    "name, choices, expected",
    [
        ("statistics", ["statistics=volume", "blend=0.3"], Statistics(statistics="volume", blend=0.3)),
        ("grata", ["steps=4", "normalized=True"], GraTa(steps=4, normalized=True)),
        ("statistics", ["statistics=Volume", "blend=1"], Statistics(statistics="volume", blend=1.0)),
        ("tent", ["optimizer.lr=1e-3"], Tent(optimizer=Adam(lr=1e-3))),
        ("tent", ["optimizer.betas=0.8,0.9"], Tent(optimizer=Adam(betas=(0.8, 0.9)))),
        ("tent", ["optimizer.lr=1e-3", "optimizer=sgd"], Tent(optimizer=SGD(lr=1e-3))),
        ("view-average", ["views.mirrors=all"], ViewAverage(views=Views(mirrors="all"))),
        ("grata", ["pseudo.views.axes=0"], GraTa(pseudo=ConsistencyTask(views=Views(axes=(0,))))),
        ("grata", ["pseudo.views.turns=false"], GraTa(pseudo=ConsistencyTask(views=Views(turns=False)))),
        ("grata", ["pseudo.restyling.style=ct"], GraTa(pseudo=ConsistencyTask(restyling=Restyling(style="ct")))),
        ("grata", ["pseudo=EntropyTask", "pseudo.half=True"], GraTa(pseudo=EntropyTask(half=True))),
        ("grata", ["trust=linear-trust"], GraTa(trust=LinearTrust())),
        ("grata", ["trust=RandomSign", "trust.inner=LinearTrust"], GraTa(trust=RandomSign(inner=LinearTrust()))),
        ("tent", ["select=Biases"], Tent(select=Biases())),
        ("tent", ["select=Matching", "select.pattern=norm"], Tent(select=Matching("norm"))),
        ("grata", ["pseudo=EntropyTask", "pseudo.half=no"], None),
        ("careful", ["predictor=0.npz", "rest=one network"], Careful(predictor="0.npz", rest="one network")),
    ],
)
def test_choices_reach_the_values_inside_a_method(name, choices, expected):
    if expected is None:
        with pytest.raises(ValueError, match="grata.pseudo.half takes True or False, found 'no'"):
            named_method(name, choices)
    else:
        assert named_method(name, choices) == expected


@pytest.mark.parametrize(
    "choice, message",
    [
        ("speed=1", "tent has no choice 'speed'. It has: select, statistics, blend, optimizer, steps, objective"),
        ("optimiser.lr=1", "tent has no choice 'optimiser'. Did you mean 'optimizer'?"),
        ("optimizer.speed=1", "tent.optimizer has no choice 'speed'. It has: lr, betas"),
        ("steps", "tent has no choice 'steps'; give NAME=VALUE"),
        ("=1", "tent has no choice '=1'; give NAME=VALUE"),
        ("steps=", "tent has no choice 'steps='; give NAME=VALUE"),
        ("blend=7", "blend is .*found 7"),
        ("blend=much", "tent.blend takes a number, found 'much'"),
        ("blend=True", "tent.blend takes a number, found 'True'"),
        ("blend.x=1", "tent.blend is 1.0, which has no choices of its own"),
        ("steps=1.5", "tent.steps takes a whole number, found '1.5'"),
        ("optimizer.lr=fast", "tent.optimizer.lr takes a number, found 'fast'"),
        ("optimizer.betas=0.8", "tent.optimizer.betas takes numbers between commas, 2 of them, found '0.8'"),
        ("statistics=windows", "tent.statistics takes one of source, window, volume, found 'windows'"),
        ("optimizer=Adamw2", "no OptimizerSpec 'Adamw2'. Did you mean 'AdamW'? Choose one of: Adam, AdamW, Learned, SGD"),
        ("select=LinearTrust", "no Selection 'LinearTrust'. .*Choose one of: .*Biases"),
        ("select=Matching", "tent.select=Matching needs tent.select.pattern, too"),
        ("objective=__import__('os').mkdir('x')", 'no Task "__import__'),
        ("select.ways=1", "tent.select has no choice 'ways'. It has: none"),
    ],
)
def test_a_wrong_choice_is_named_with_the_known_ones(choice, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?").replace("(", r"\(")):
        named_method("tent", [choice])


def test_a_field_that_no_text_can_give_is_no_choice():
    with pytest.raises(ValueError, match=r"careful has no choice 'candidates'\. It has: predictor, views"):
        named_method("careful", ["candidates=(1, 2)"])
    with pytest.raises(ValueError, match=r"source has no choice 'a'\. It has: none"):
        named_method("source", ["a=1"])


def test_every_method_is_built_by_its_name():
    needs = {"ChoosePrompt": ["name=task", "candidates=0,1"]}
    for name in methods.__all__:
        given = {"name": "task", "candidates": (0, 1)} if name in needs else {}
        assert named_method(name, needs.get(name, ())) == getattr(methods, name)(**given)
