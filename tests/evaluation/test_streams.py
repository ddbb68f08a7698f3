"""Continual use as a protocol: the streams' order, rows, the table by hand, and the command on phantoms."""

import json
from collections import Counter
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.contenders import stream_contenders
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.evaluation.streams import StreamCase, StreamPlan, route, walk
from monai_tta.pipeline.bundle import BundleError
from monai_tta.reporting.stream_rows import BACK, StreamRow
from monai_tta.reporting.stream_tables import changes, plot_streams, running, stream_markdown

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=2)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.sampled_from(["apart", "mixed"]), st.integers(0, 99), st.integers(1, 3))
def test_a_stream_goes_over_every_case_each_round_and_back_to_the_source(counts, kind, order, rounds):
    stops, source = route(counts, kind, order, rounds), next(iter(counts))
    assert stops == route(counts, kind, order, rounds)
    each = {k: [(s.domain, s.case) for s in stops if s.round == k] for k in range(rounds + 1)}
    away = sorted((name, case) for name, n in counts.items() if name != source for case in range(n))
    assert sorted(each[BACK]) == [(source, case) for case in range(counts[source])] and stops[-1].round == BACK
    assert all(each[k] == each[1] and sorted(each[k]) == away for k in range(1, rounds + 1))
    if kind == "apart":
        runs = [name for k, (name, _) in enumerate(each[1]) if k == 0 or each[1][k - 1][0] != name]
        assert len(runs) == len(counts) - 1, "one domain after the other"


def test_orders_differ_and_mixing_mixes():
    counts = {"source": 4, "a": 9, "b": 9, "c": 9}
    assert len({tuple(route(counts, "apart", order, 1)) for order in range(6)}) == 6
    names = [s.domain for s in route(counts, "mixed", 0, 1)[:9]]
    assert len(set(names)) > 1


def row(contender, dice, position=0, order=0, **named):
    kept = {"kind": "apart", "round": 1, "domain": "a", "case": position} | named
    return StreamRow(contender=contender, order=order, position=position, dice=dice, **kept)


@given(st.lists(st.floats(0, 1), max_size=3), st.none() | st.text())
def test_rows_there_and_back(dice, reason):
    one = row("GraTa", tuple(round(d, 6) for d in dice), reason=reason)
    assert StreamRow.from_json(one.to_json()) == one
    assert "null" in row("GraTa", (nan,)).to_json()
    with pytest.raises(ValueError, match="row of a stream"):
        StreamRow.from_json("{}")


def test_the_table_by_hand(tmp_path):
    rows = [row("Source", (0.8, 0.6), k, order) for order in (0, 1) for k in range(4)]
    rows += [row("Source", (0.9, nan), 4, order, round=BACK, domain="s") for order in (0, 1)]
    gains = ((0.1, 0.1, -0.005, -0.2), (0.1, 0.1, 0.1, 0.1))
    rows += [
        row("Other", (0.8 + g, 0.6 + g), k, order, restarted="why" if k == 3 and order == 0 else None)
        for order, some in enumerate(gains)
        for k, g in enumerate(some)
    ]
    rows += [row("Other", (0.8, nan), 4, order, round=BACK, domain="s", reason="why") for order in (0, 1)]
    text = stream_markdown(rows)
    cells = [c.strip() for c in next(line for line in text.split("\n") if line.startswith("| Other")).split("|")[2:-1]]
    first, second = (0.1 + 0.1 - 0.005 - 0.2 - 0.1) / 5, (0.4 - 0.1) / 5
    assert cells[:2] == ["+4.9", "-10.0"] and cells[2] == f"{100 * (second - first):.1f}"
    assert cells[3:7] == ["30%", "-20.0", "0.5", "20%"] and "(2 orders of 5 stops)" in text
    assert "| Source | 0.0 | 0.0 | 0.0 | 0% | 0.0 | 0.0 | 0% |" in text
    with pytest.raises(ValueError, match="Source"):
        changes(rows[-2:])
    assert running([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    plot_streams(rows, tmp_path / "s.svg")
    assert "domains apart" in (tmp_path / "s.svg").read_text(encoding="utf-8") or (tmp_path / "s.svg").stat().st_size > 5000


def test_contenders_by_name():
    protocol = protocol_of(BUNDLE)
    labels = [c.label for c in stream_contenders(protocol)]
    assert labels[0] == "Source" and {"GraTa", "Tent", "Consistency", "Statistics"} < set(labels)
    assert [c.label for c in stream_contenders(protocol, ["Tent"])] == ["Source", "Tent"]
    with pytest.raises(BundleError, match="there are: Source; Statistics"):
        stream_contenders(protocol, ["Luck"])


def test_a_walk_learns_along_its_stream_and_nowhere_else(phantom_set):
    plan = StreamPlan(("source_val", "target", "BiasFieldShift 3"), (0, 1), 2, 1)
    source, tent = (walk(BUNDLE, phantom_set, "model.pt", c, plan) for c in stream_contenders(protocol_of(BUNDLE), ["Tent"]))
    assert len(source) == len(tent) == 2 * 2 * (2 * 2 + 1)
    assert [(r.kind, r.order, r.position, r.domain) for r in source] == [(r.kind, r.order, r.position, r.domain) for r in tent]
    counts = {name: 1 for name in plan.places}
    for kind in ("apart", "mixed"):
        for order in plan.orders:
            own = [r for r in tent if (r.kind, r.order) == (kind, order)]
            assert [StreamCase(r.round, r.domain, r.case) for r in own] == route(counts, kind, order, 2)
            way = [r.weight_distance for r in own]
            assert way[-1] > 1.5 * way[0] and own[0].weight_distance == pytest.approx(way[0]), "each stream begins anew"
    assert len({(r.domain, r.dice) for r in source}) == 3 and Counter(r.round for r in source) == {1: 8, 2: 8, BACK: 4}


def test_the_command_writes_rows_table_and_plot(phantom_set, tmp_path):
    words = ["stream", str(BUNDLE), "--dataset-dir", str(phantom_set), "--out", str(tmp_path / "o"), "--only", "Statistics"]
    words += ["--orders", "1", "--rounds", "1", "--limit", "1", "--domain", "source_val", "--domain", "target", "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = [StreamRow.from_json(line) for line in (tmp_path / "o" / "rows.jsonl").read_text().splitlines()]
    assert Counter(r.contender for r in rows) == {"Source": 4, "Statistics": 4}
    assert "**mixed** (1 order of 2 stops)" in (tmp_path / "o" / "table.md").read_text()
    assert (tmp_path / "o" / "streams.svg").is_file() and "Traceback" not in done.output
    assert not any(str(phantom_set) in json.dumps(line) for line in rows[0].to_json())


def test_the_command_says_what_is_wrong(phantom_set, tmp_path):
    words = ["stream", str(BUNDLE), "--dataset-dir", str(phantom_set), "--out", str(tmp_path / "o")]
    assert "no domain 'Mars'" in CliRunner().invoke(app, [*words, "--domain", "Mars"]).output
    assert "no contender 'Luck'" in CliRunner().invoke(app, [*words, "--only", "Luck"]).output
    with pytest.raises(BundleError, match="another domain"):
        walk(BUNDLE, phantom_set, "model.pt", stream_contenders(protocol_of(BUNDLE))[0], StreamPlan(("target",)))
