"""Streams: the order of their cases, their rows, their table by hand, and the command on phantoms."""

import json
from collections import Counter
from math import nan
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from monai_tta import Source
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.evaluation.contenders import Contender, stream_contenders
from monai_tta.evaluation.protocol import protocol_of
from monai_tta.evaluation.streams import StreamCase, StreamPlan, follow_streams, stream_cases
from monai_tta.pipeline.bundle import BundleError
from monai_tta.reporting.stream_rows import BACK, StreamRow
from monai_tta.reporting.stream_tables import changes, plot_streams, running, stream_markdown

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=2)


class TestOrder:
    @settings(max_examples=60, deadline=None)
    @given(COUNTS, st.sampled_from(["apart", "mixed"]), st.integers(0, 99), st.integers(1, 3))
    def test_a_stream_goes_over_every_case_each_round_and_back_to_the_source(self, counts, kind, order, rounds):
        cases = stream_cases(counts, kind, order, rounds)
        assert cases == stream_cases(counts, kind, order, rounds)
        source = next(iter(counts))
        by_round = {k: [(c.domain, c.case) for c in cases if c.round == k] for k in range(rounds + 1)}
        away = sorted((name, case) for name, n in counts.items() if name != source for case in range(n))
        assert sorted(by_round[BACK]) == [(source, case) for case in range(counts[source])] and cases[-1].round == BACK
        assert all(by_round[k] == by_round[1] and sorted(by_round[k]) == away for k in range(1, rounds + 1))
        if kind == "apart":
            names = [name for name, _ in by_round[1]]
            changes_of_domain = sum(a != b for a, b in zip(names, names[1:], strict=False))
            assert changes_of_domain == len(counts) - 2, "one domain after the other"

    def test_orders_differ_and_mixing_mixes(self):
        counts = {"source": 4, "a": 9, "b": 9, "c": 9}
        assert len({tuple(stream_cases(counts, "apart", order, 1)) for order in range(6)}) == 6
        names = [case.domain for case in stream_cases(counts, "mixed", 0, 1)[:9]]
        assert len(set(names)) > 1


def row(contender, dice, position=0, order=0, **named):
    place = {"kind": "apart", "round": 1, "domain": "a", "case": position} | named
    return StreamRow(contender=contender, order=order, position=position, dice=dice, **place)


def test_a_contender_gets_what_belongs_to_the_checkpoint(monkeypatch, tmp_path):
    class Asked(Source):
        def for_checkpoint(self, weights):
            raise RuntimeError(f"asked for {weights.relative_to(BUNDLE)}")

    domain = SimpleNamespace(cases=[], postprocessing=None)
    monkeypatch.setattr("monai_tta.evaluation.streams._LoadedDomain", lambda *_: domain)
    monkeypatch.setattr("monai_tta.evaluation.streams.head_of", lambda _: "softmax")
    with pytest.raises(RuntimeError, match="asked for models/model_instance.pt"):
        follow_streams(BUNDLE, tmp_path, "model_instance.pt", Contender("Asked", Asked()), StreamPlan())


@given(st.lists(st.floats(0, 1), max_size=3), st.none() | st.text())
def test_rows_are_read_as_they_were_written(dice, reason):
    one = row("GraTa", tuple(round(d, 6) for d in dice), reason=reason)
    assert StreamRow.from_json(one.to_json()) == one
    assert "null" in row("GraTa", (nan,)).to_json()
    with pytest.raises(ValueError, match="row of a stream"):
        StreamRow.from_json("{}")


def test_the_table_by_hand(tmp_path):
    rows = [row("Source", (0.8, 0.6), k, order) for order in (0, 1) for k in range(4)]
    rows += [row("Source", (0.9, nan), 4, order, round=BACK, domain="s") for order in (0, 1)]
    gains_by_order = ((0.1, 0.1, -0.005, -0.2), (0.1, 0.1, 0.1, 0.1))
    for order, gains in enumerate(gains_by_order):
        for k, gain in enumerate(gains):
            restarted = "why" if k == 3 and order == 0 else None
            rows.append(row("Other", (0.8 + gain, 0.6 + gain), k, order, restarted=restarted))
    rows += [row("Other", (0.8, nan), 4, order, round=BACK, domain="s", reason="why") for order in (0, 1)]
    text = stream_markdown(rows)
    cells = [c.strip() for c in next(line for line in text.split("\n") if line.startswith("| Other")).split("|")[2:-1]]
    first, second = (0.1 + 0.1 - 0.005 - 0.2 - 0.1) / 5, (0.4 - 0.1) / 5
    assert cells[:2] == ["+4.9", "-10.0"] and cells[2] == f"{100 * (second - first):.1f}"
    assert cells[3:7] == ["30%", "-20.0", "0.5", "20%"] and "(2 orders of 5 cases)" in text
    assert "| Source | 0.0 | 0.0 | 0.0 | 0% | 0.0 | 0.0 |  |" in text
    with pytest.raises(ValueError, match="Source"):
        changes(rows[-2:])
    assert running([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    plot_streams(rows, tmp_path / "s.svg")
    assert "domains apart" in (tmp_path / "s.svg").read_text(encoding="utf-8") or (tmp_path / "s.svg").stat().st_size > 5000


def test_contenders_are_chosen_by_name():
    protocol = protocol_of(BUNDLE)
    assert [c.label for c in stream_contenders(protocol, ["Tent"])] == ["Source", "Tent"]
    with pytest.raises(BundleError, match="there are: Source; Statistics"):
        stream_contenders(protocol, ["Luck"])


def test_what_is_learnt_grows_along_a_stream_and_not_from_one_stream_to_the_next(phantom_set):
    plan = StreamPlan(("source_val", "target", "BiasFieldShift 3"), (0, 1), 2, 1)
    contenders = stream_contenders(protocol_of(BUNDLE), ["Tent"])
    source, tent = (follow_streams(BUNDLE, phantom_set, "model.pt", contender, plan) for contender in contenders)
    assert len(source) == len(tent) == 2 * 2 * (2 * 2 + 1)
    assert [(r.kind, r.order, r.position, r.domain) for r in source] == [(r.kind, r.order, r.position, r.domain) for r in tent]
    counts = {name: 1 for name in plan.domains}
    for kind in ("apart", "mixed"):
        for order in plan.orders:
            own = [r for r in tent if (r.kind, r.order) == (kind, order)]
            assert [StreamCase(r.round, r.domain, r.case) for r in own] == stream_cases(counts, kind, order, 2)
            assert own[-1].weight_distance > 1.5 * own[0].weight_distance > 0
    starts = {(r.order, r.domain): r.weight_distance for r in tent if r.position == 0}
    for r in tent:
        if r.position == 0:
            assert r.weight_distance == pytest.approx(starts[r.order, r.domain]), "each stream starts from the source"
    assert len({(r.domain, r.dice) for r in source}) == 3 and Counter(r.round for r in source) == {1: 8, 2: 8, BACK: 4}


class TestCommand:
    def run(self, phantom_set, tmp_path, *more):
        words = ["stream", BUNDLE, "--dataset-dir", phantom_set, "--out", tmp_path / "o", *more]
        return CliRunner().invoke(app, [str(word) for word in words])

    def test_it_writes_rows_table_and_plot(self, phantom_set, tmp_path):
        quick = ["--orders", 1, "--rounds", 1, "--limit", 1, "--workers", 1]
        done = self.run(phantom_set, tmp_path, "--only", "Statistics", "--domain", "source_val", "--domain", "target", *quick)
        assert done.exit_code == 0, done.output
        rows = [StreamRow.from_json(line) for line in (tmp_path / "o" / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
        assert Counter(r.contender for r in rows) == {"Source": 4, "Statistics": 4}
        assert "**mixed** (1 order of 2 cases)" in (tmp_path / "o" / "table.md").read_text(encoding="utf-8")
        assert (tmp_path / "o" / "streams.svg").is_file() and "Traceback" not in done.output
        assert not any(str(phantom_set) in json.dumps(line) for line in rows[0].to_json())

    def test_it_goes_on_with_what_is_left_and_refuses_other_settings(self, phantom_set, tmp_path):
        quick = ["--orders", 1, "--rounds", 1, "--workers", 1, "--domain", "source_val", "--domain", "target"]
        assert self.run(phantom_set, tmp_path, *quick, "--limit", 1, "--only", "Statistics").exit_code == 0
        file = tmp_path / "o" / "rows.jsonl"
        first = file.read_text(encoding="utf-8").splitlines()
        again = self.run(phantom_set, tmp_path, *quick, "--limit", 1, "--only", "Statistics")
        assert again.exit_code == 0 and "2 of 2 contenders are done already" in again.output and "followed" not in again.output
        more = self.run(phantom_set, tmp_path, *quick, "--limit", 1, "--only", "Tent")
        assert "1 of 2 contenders are done already" in more.output and "1/1 Tent followed" in more.output
        rows = file.read_text(encoding="utf-8").splitlines()
        assert rows[: len(first)] == first and len(rows) == 4 * 3
        assert "| Tent |" in (table := (tmp_path / "o" / "table.md").read_text(encoding="utf-8")) and "| Statistics |" in table
        other = self.run(phantom_set, tmp_path, *quick, "--only", "Tent")
        assert other.exit_code == 2 and "has rows of other settings: streams differ" in " ".join(other.output.split())
        assert file.read_text(encoding="utf-8").splitlines() == rows

    def test_it_says_what_is_wrong(self, phantom_set, tmp_path):
        assert "no domain 'Mars'" in self.run(phantom_set, tmp_path, "--domain", "Mars").output
        assert "no contender 'Luck'" in self.run(phantom_set, tmp_path, "--only", "Luck").output
        with pytest.raises(BundleError, match="another domain"):
            (source, *_) = stream_contenders(protocol_of(BUNDLE))
            follow_streams(BUNDLE, phantom_set, "model.pt", source, StreamPlan(("target",)))
