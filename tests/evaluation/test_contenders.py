"""The rows of a comparison: their names and order, which tables and commands rely on."""

from monai_tta import methods
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.contenders import ALWAYS_COMPARED, chosen_contenders, contenders, stream_contenders
from monai_tta.evaluation.protocol import protocol_of

LABELS = [
    "Source",
    "Careful",
    "Careful, un-augmented",
    "Careful, one network",
    "Careful, universal predictor",
    "View average",
    "Statistics, window, blend 0.1",
    "Statistics, window, blend 0.3",
    "Statistics, window, blend 1.0",
    "Statistics, volume, blend 0.1",
    "Statistics, volume, blend 0.3",
    "Statistics, volume, blend 1.0",
    "Tent",
    "Consistency, beta",
    "Consistency, beta/4",
    "GraTa",
    "GraTa, 10 beta, 4 steps",
    "GraTa, 4 steps",
    "GraTa, continual",
    "GraTa, 4 steps, continual",
    "GraTa, learn window",
    "GraTa, learn window, continual",
    "GraTa, volume statistics, blend 0.3",
    "View average, trained mirrors",
    "GraTa, trained mirrors",
    "GraTa, trained mirrors, 10 beta, 4 steps",
]
OTHERS = [
    "ImageEdit",
    "MGG",
    "MGG, continual",
    "Rehearsal",
    "Rehearsal, continual",
    "STAG",
    "VPTTA",
    "VPTTA, continual",
]
STREAM_LABELS = [
    "Source",
    "Statistics",
    "Tent",
    "Consistency",
    "GraTa",
    "GraTa, 10 beta",
    "GraTa, 10 beta, rehearsal",
    "GraTa, episodic",
    "Tent, 100 beta",
    "Tent, 100 beta, rehearsal",
    "Tent, 1000 beta",
    "Tent, 1000 beta, never restarted",
    "MGG",
    "VPTTA",
]


def test_rows_keep_their_names_and_order():
    protocol = protocol_of(BUNDLE)
    assert protocol.mirrors is not None
    assert [row.label for row in contenders(protocol)] == [*LABELS, *OTHERS]
    assert [row.label for row in stream_contenders(protocol)] == STREAM_LABELS


def test_rows_with_trained_mirrors_need_a_protocol_that_names_the_mirrors():
    without = protocol_of(BUNDLE.parent / "vessel_fundus")
    assert without.mirrors is None
    assert [row.label for row in contenders(without)] == [*LABELS[:-3], *OTHERS]


def test_continual_rows_are_told_by_their_choices():
    protocol = protocol_of(BUNDLE)
    never = {row.label for row in contenders(protocol) if row.choices.get("reset") == "never"}
    assert never == {label for label in [*LABELS, *OTHERS] if "continual" in label}


def test_some_rows_run_only_when_they_are_named():
    protocol = protocol_of(BUNDLE)
    named = ["GraTa, random sign", "Consistency, masked context", "Consistency, added parameters"]
    assert [row.label for row in chosen_contenders(protocol, named)] == ["Source", *named]
    assert not {row.label for row in contenders(protocol)} & set(named)


def test_every_method_that_runs_with_its_defaults_has_a_row_when_it_is_named():
    protocol = protocol_of(BUNDLE)
    always = {type(row.method).__name__ for row in contenders(protocol)}
    rare = sorted(set(methods.__all__) - always - {"DyNA", "ChoosePrompt"})
    assert not set(ALWAYS_COMPARED) & set(rare)
    rows = chosen_contenders(protocol, rare)
    assert [row.label for row in rows] == ["Source", *rare]
    continual = ["MGG", *(row.label for row in rows if row.method.is_continual)]
    streams = stream_contenders(protocol, continual)
    assert {row.label for row in streams} == {"Source", *continual} and all(row.choices for row in streams[1:])
