"""A comparison on phantoms: what is compared, what reaches a method, and how a run survives failures and is resumed."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from pydoc import locate

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.core.trust import RandomSign, SquaredTrust
from monai_tta.evaluation.compare import compare, work
from monai_tta.evaluation.contenders import ABLATIONS, chosen_contenders, contenders
from monai_tta.evaluation.jobs import ComparisonJob, jobs_of
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.protocol import Domain, at_severity, chosen_domains, protocol_of
from monai_tta.methods import __all__ as exported
from monai_tta.pipeline.bundle import BundleError
from monai_tta.reporting.rows import RowFile, RowsError

FEW = ("View average", "Statistics, window, blend 1.0", "GraTa, continual")
VAL = Domain("source_val", {"split": "source_val"})


def job(data, names=FEW, domain=VAL, numbers=(0, 1), budget=1, seed=0, **named):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=data, only=names, **named)
    return ComparisonJob(plan, "model.pt", domain, numbers, tuple(plan.contenders()), budget, seed)


def content(rows):
    """All but what differs from run to run. As text, since from Python 3.13 on a dataclass with a NaN does not equal itself."""
    return {row.key: repr(replace(row, seconds=0, memory=None)) for row in rows}


def rows_of(folder):
    with closing(RowFile(folder / "rows.sqlite")) as file:
        return file.rows()


def test_every_method_and_control_is_in_the_protocol():
    protocol = protocol_of(BUNDLE)
    labels = [c.label for c in contenders(protocol)]
    assert len(set(labels)) == len(labels) > 15
    assert {type(c.method).__name__ for c in contenders(protocol)} < set(exported)  # the others have rows that are named
    assert [c.label for c in chosen_contenders(protocol, ["Tent"])] == ["Source", "Tent"]
    for name in (b.name for b in BUNDLE.parent.glob("*") if (b / "configs" / "compare.yaml").is_file()):
        assert protocol_of(BUNDLE.parent / name).labels and protocol_of(BUNDLE.parent / name).unit in ("mm", "pixels")


def test_one_flag_adds_the_ablations():
    protocol = protocol_of(BUNDLE)
    assert {c.label for c in chosen_contenders(protocol, ["Tent"], ablations=True)} == {"Source", "Tent", *ABLATIONS}
    assert [c.label for c in chosen_contenders(protocol)] == [c.label for c in contenders(protocol)]
    (extra,) = {c.label for c in chosen_contenders(protocol, ablations=True)} - {c.label for c in contenders(protocol)}
    assert extra == "GraTa, random sign"


def test_random_sign_is_a_fair_coin_without_state():
    values = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    kept = [RandomSign()(c) == SquaredTrust()(c) for c in values]
    assert 0.45 < np.mean(kept) < 0.55
    assert all(RandomSign()(c) in (SquaredTrust()(c), SquaredTrust()(-c)) for c in values)
    assert [RandomSign()(c) for c in values] == [RandomSign()(c) for c in values] != [RandomSign(1)(c) for c in values]


@pytest.mark.parametrize(
    "bundle", sorted(p.parents[1] for p in BUNDLE.parent.glob("*/configs/compare.yaml")), ids=lambda p: p.name
)
def test_protocols_name_shifts_that_exist(bundle):
    for domain in protocol_of(bundle).domains:
        if domain.shift:
            assert locate(domain.shift)(domain.severity, 0).severity == domain.severity
            assert at_severity(domain, 5).label == f"{locate(domain.shift).__name__} 5"


def test_severities_replace_those_of_simulated_scanners():
    names = [d.label for d in chosen_domains(protocol_of(BUNDLE), ["target", "BiasFieldShift 3"], [1, 3])]
    assert names == ["target", "BiasFieldShift 1", "BiasFieldShift 3"]
    with pytest.raises(BundleError, match="no severity 6"):
        chosen_domains(protocol_of(BUNDLE), severities=[6])


def test_a_job_gives_a_row_for_each_case_and_contender(phantom_set):
    rows, failures = work(job(phantom_set))
    assert not failures and [r.key.contender for r in rows] == [c for _ in range(2) for c in ("Source", *FEW)]
    assert {r.key.number for r in rows} == {0, 1} and all(len(r.scores) == 2 and r.group == "A" for r in rows)
    assert all(r.seconds > 0 and r.shift is r.severity is None for r in rows)
    assert {r.reason for r in rows if r.key.contender != "Source"} == {None}
    assert {r.reason for r in rows if r.key.contender == "Source"} == {"the method is Source: nothing adapts"}
    assert all(r.memory is None or 0 <= r.memory < 2000 for r in rows)
    assert len({r.answer for r in rows if r.key.number == 0}) == 4


def test_a_simulated_scanner_comes_before_the_normalisation(phantom_set):
    own, shifted = protocol_of(BUNDLE).domains[0], protocol_of(BUNDLE).domains[2]
    unshifted = LabelledDomain(BUNDLE, phantom_set, own).case(0)
    case, again, other = (LabelledDomain(BUNDLE, phantom_set, shifted).case(0, seed) for seed in (0, 0, 1))
    assert torch.equal(case["image"], again["image"]) and torch.equal(case["label"], unshifted["label"])
    assert not torch.allclose(case["image"], unshifted["image"], atol=0.05)
    assert not torch.allclose(case["image"], other["image"], atol=0.01)  # another seed is another scanner
    assert abs(float(case["image"].mean())) < 1e-4 and float(case["image"].std()) == pytest.approx(1, abs=1e-3)


def test_poisoned_labels_change_no_answer(phantom_set, tmp_path):
    """Other labels, same images: the answers are the same bit for bit, and only the scores differ."""
    poisoned = tmp_path / "poisoned"
    shutil.copytree(phantom_set, poisoned)
    rng = np.random.default_rng(1)
    for path in (poisoned / "labels").glob("*"):
        old = nib.load(path)
        nib.save(nib.Nifti1Image(rng.integers(0, 3, old.shape, dtype=np.uint8), old.affine), path)
    healthy, sick = (work(job(d, names=(), ablations=True, metrics=("dice",), numbers=(0,)))[0] for d in (phantom_set, poisoned))
    assert len(healthy) == len(contenders(protocol_of(BUNDLE))) + 1
    assert [(r.key, r.answer) for r in healthy] == [(r.key, r.answer) for r in sick]
    assert all(a.scores != b.scores for a, b in zip(healthy, sick, strict=True))


def test_only_missing_rows_become_jobs(phantom_set):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=FEW, domains=("target",), budgets=(1, 0), seeds=(0, 1))
    jobs = list(jobs_of(plan, set(), {"target": 2}))
    assert len(jobs) == 2 * 2 * (1 + 2)  # budgets, seeds, one stream and two cases
    everything = {j.key(c, n) for j in jobs for c in j.contenders for n in j.numbers}
    assert len(everything) == 2 * 2 * 4 * 2 and not list(jobs_of(plan, everything, {"target": 2}))
    lost = {("GraTa, continual", 1, 0, 1), ("Source", 1, 1, 0)}
    missing = {k for k in everything if (k.contender, k.number, k.budget, k.seed) in lost}
    stream, case = sorted(jobs_of(plan, everything - missing, {"target": 2}), key=lambda j: -len(j.numbers))
    assert stream.numbers == (0, 1) and (stream.budget, stream.seed) == (0, 1)  # a stream is answered in order
    assert case.numbers == (1,) and [c.label for c in case.contenders] == ["Source"]
    assert not list(jobs_of(plan, set(), {}))


def test_several_processes_give_the_same_rows_and_survive_a_damaged_case(phantom_set, tmp_path):
    (phantom_set / "images" / "c3.nii.gz").write_bytes(b"damaged")
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=FEW, domains=("source_val", "target"), metrics=("dice",))
    failures = {n: [line for _, _, lines in compare(plan, tmp_path / str(n), n) for line in lines] for n in (1, 2)}
    one, two = (rows_of(tmp_path / str(n)) for n in (1, 2))
    assert content(one) == content(two) and [r.key for r in one] == [r.key for r in two]
    assert len(one) == 4 * 3  # three of four cases
    for lines in failures.values():
        assert lines and all(line.startswith("model.pt, source_val, case 1: ") for line in lines)
    with closing(sqlite3.connect(tmp_path / "2" / "rows.sqlite")) as file:
        kept = str([list(file.execute(f"SELECT * FROM {table}")) for table in ("run", "cases", "scores")])
    assert "phantoms" not in kept and not re.search(r"\bc3\b", kept) and str(tmp_path) not in kept and ".nii" not in kept


def test_a_process_that_dies_costs_only_its_own_case(phantom_set, bundle_copy, tmp_path):
    file = bundle_copy / "configs" / "evaluate.yaml"
    dies = "$lambda image: os._exit(9) if 'c3' in image.meta['filename_or_obj'] else image"
    step = f'- {{_target_: Lambdad, keys: image, func: "{dies}"}}\n  - {{_target_: NormalizeIntensityd, keys: image}}'
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("- {_target_: NormalizeIntensityd, keys: image}", step), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != text
    plan = ComparisonPlan(
        root=bundle_copy, dataset_dir=phantom_set, only=("View average",), domains=("source_val", "target"), metrics=("dice",)
    )
    lines = [line for *_, lines in compare(plan, tmp_path / "o", 1) for line in lines]
    assert len(lines) == 1 and "source_val" in lines[0] and "ended abruptly (exit code 9)" in lines[0]
    assert len(rows_of(tmp_path / "o")) == 2 * 3


def test_rows_of_another_data_set_metric_or_precision_are_refused(phantom_set, tmp_path):
    plan = ComparisonPlan(root=BUNDLE, dataset_dir=phantom_set, only=("View average",), domains=("target",), metrics=("dice",))
    list(compare(plan, tmp_path / "o", 1))
    assert not list(compare(plan, tmp_path / "o", 1))  # nothing is left to do
    with pytest.raises(RowsError, match="another precision: 'exact' there, 'fast' now"):
        list(compare(replace(plan, precision="fast"), tmp_path / "o", 1))
    with pytest.raises(RowsError, match="another metrics"):
        list(compare(replace(plan, metrics=("dice", "nsd")), tmp_path / "o", 1))
    with (phantom_set / "split.csv").open("a", encoding="utf-8") as file:
        file.write("c0,A,target\n")
    with pytest.raises(RowsError, match="another domains 'target'"):
        list(compare(plan, tmp_path / "o", 1))


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [int(word) for word in found]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found by /proc")
def test_a_killed_run_resumes_where_it_stopped(phantom_set, tmp_path):
    words = [sys.executable, "-m", "monai_tta", "compare", str(BUNDLE), "--dataset-dir", str(phantom_set), "--out", str(tmp_path)]
    words += [word for name in FEW for word in ("--only", name)]
    words += ["--domain", "source_val", "--domain", "target", "--metrics", "dice", "--workers", "1", "--seed", "0", "--seed", "1"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = tmp_path / "rows.sqlite"

    def count():
        with closing(sqlite3.connect(path, timeout=60)) as file:
            return file.execute("SELECT COUNT(*) FROM cases").fetchone()[0]

    until = time.monotonic() + 120
    while not (path.is_file() and path.stat().st_size > 20000 and count() > 1) and time.monotonic() < until:
        time.sleep(0.05)
    workers = children(running.pid)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = rows_of(tmp_path)
    assert workers and 0 < len(before) < 32
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)  # the workers end with their parent
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    after = {row.key: row for row in rows_of(tmp_path)}
    assert len(after) == 4 * 2 * 2 * 2
    for row in before:  # the same seconds: not done twice
        assert repr(after[row.key]) == repr(row)


def test_missing_data_and_unknown_names_are_refused(tmp_path, phantom_set):
    with pytest.raises(BundleError, match="no case for 'x'"):
        LabelledDomain(BUNDLE, phantom_set, Domain("x", {"split": "nowhere"}))
    with pytest.raises(BundleError, match="no configs/compare.yaml"):
        protocol_of(tmp_path)
    words = ["compare", str(BUNDLE), "--dataset-dir", str(tmp_path), "--out", str(tmp_path / "o")]
    for more, message in (
        (["--domain", "Mars"], "no domain 'Mars'"),
        (["--only", "Telepathy"], "no row 'Telepathy'"),
        (["--metrics", "dice,luck"], "no metric 'luck'"),
        (["--metrics", "nsd"], "add dice to nsd"),
        (["--budget", "-1"], "found -1"),
        (["--severity", "9"], "no severity 9"),
        (["--precision", "double"], "precision must be"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 2 and message in result.output and not (tmp_path / "o").exists(), result.output
    result = CliRunner().invoke(app, [*words, "--only", "Tent"])
    assert result.exit_code == 3 and "failed: source_val" in result.output and "Traceback" not in result.output


def test_a_group_that_is_a_path_is_refused(phantom_set):
    text = (phantom_set / "split.csv").read_text(encoding="utf-8")
    (phantom_set / "split.csv").write_text(text.replace(",A,", ",/home/someone,"), encoding="utf-8")
    with pytest.raises(BundleError, match="a group is a short word"):
        LabelledDomain(BUNDLE, phantom_set, VAL)
