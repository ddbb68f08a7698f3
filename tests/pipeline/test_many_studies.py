"""Shards and workers: each case once, whoever is killed, and the masks and records of one process. See docs/many-studies.md."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from docs import many_studies
from monai_tta.cli.app import app
from monai_tta.compute.worker_pool import WorkerPool, WorkersFailed
from monai_tta.pipeline.folder_locks import hold, is_held
from monai_tta.pipeline.journal import UnfinishedRun
from monai_tta.pipeline.outcome import Outcome
from monai_tta.pipeline.output_folder import PARTIAL, partial_folder
from monai_tta.pipeline.run_log import RunLog
from monai_tta.pipeline.shard_records import write_records
from monai_tta.pipeline.shards import WHOLE, Shard, parse_shard, shard_of_torchrun
from tests.attack.arena import save, small_bundle, volume
from tests.attack.slurm import page_script
from tests.attack.stops import figures, masks
from tests.shard_folder import CASE, NAMES, ShardFolder


class TestShares:
    def test_each_image_is_in_one_share_whatever_others_there_are(self):
        for count in (1, 2, 7):
            shares = [[name for name in NAMES if shard.holds(name)] for shard in Shard(1, count).all()]
            assert Counter(name for share in shares for name in share) == Counter(NAMES)
        many = [Shard(3, 16).holds(f"study{number}") for number in range(16000)]
        assert 880 < sum(many) < 1120  # a sixteenth is 1,000, and four deviations are 122

    @pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2"])
    def test_a_share_that_there_is_not(self, text):
        with pytest.raises(ValueError, match="--shard"):
            parse_shard(text)

    def test_what_torchrun_says(self):
        assert shard_of_torchrun({"RANK": "2", "WORLD_SIZE": "4"}) == Shard(3, 4) == parse_shard("3/4")
        assert shard_of_torchrun({"RANK": "0", "WORLD_SIZE": "1"}) is shard_of_torchrun({"RANK": "1"}) is None
        with pytest.raises(ValueError, match="unset"):
            shard_of_torchrun({"RANK": "4", "WORLD_SIZE": "4"})


@pytest.fixture
def folder(tmp_path):
    return ShardFolder(tmp_path)


class TestJournals:
    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
    def test_the_last_shard_puts_all_together_whatever_the_order(self, folder, order):
        for index in order[:-1]:
            state = folder.finish(folder.log(index, 3))
            assert not state.finished and not folder.document()["run"]["finished"]
        assert [str(shard) for shard in state.unfinished] == [f"{order[-1]}/3"]
        assert folder.finish(folder.log(order[-1], 3)).finished
        document = folder.document()
        assert [case["number"] for case in document["cases"]] == list(range(12)) and document["run"]["finished"]
        assert [case["name"] for case in document["cases"]] == NAMES and not folder.left()

    def test_another_number_of_shards_takes_over_what_is_done(self, folder):
        first = [folder.log(index, 4) for index in (1, 2, 3, 4)]
        done = [number for log in first for number in log.order()[:2]]
        for log in first:
            folder.do(log, log.order()[:2])
        shares = [folder.log(index, 2) for index in (1, 2)]
        assert sorted(number for log in shares for number in log.cases) == sorted(done)
        assert [folder.finish(log).finished for log in shares] == [False, True]
        assert [case["name"] for case in folder.document()["cases"]] == NAMES and not folder.left()

    def test_one_process_takes_over_what_shards_did(self, folder):
        folder.finish(folder.log(1, 3))
        log = folder.log()
        assert sorted(log.cases) == [number for number, name in enumerate(NAMES) if Shard(1, 3).holds(name)]
        assert folder.finish(log).finished and not folder.left()

    def test_a_shard_that_failed_an_image_tries_it_again(self, folder):
        log = folder.log(1, 2)
        records = folder.do(log, log.order()[1:])
        failed = Outcome(log.images[log.share[0]], error="damaged", number=log.share[0], name=log.names[log.share[0]])
        log.begin(log.share[0])
        log.put_on_record(log.share[0], records.add(failed))
        write_records(log, records, ended=True)
        assert folder.finish(folder.log(2, 2)).finished
        (case,) = (case for case in folder.document()["cases"] if case["status"] == "failed")
        assert case["number"] == log.share[0] and case["error"] == "damaged"

    def test_an_ended_shard_that_runs_again_is_not_at_its_end(self, folder):
        folder.finish(folder.log(1, 2))
        again = folder.log(1, 2)
        assert not again.order() and not folder.finish(folder.log(2, 2)).finished
        assert not again.journal.has_ended() and folder.finish(again).finished

    def test_a_shard_does_not_replace_the_records_of_a_finished_run(self, folder):
        folder.finish(folder.log())
        with pytest.raises(UnfinishedRun, match="came to its end"):
            folder.log(1, 2)

    def test_shards_of_other_settings_are_refused(self, folder):
        folder.log(1, 2)
        with pytest.raises(UnfinishedRun, match="another seed.*end all shards"):
            folder.log(2, 2, settings={"seed": 1})

    def test_a_refused_run_puts_nothing_on_record(self, folder):
        first = folder.log(1, 2)
        folder.do(first, first.order()[:1])
        (folder.out / ".monai_tta_run.2-of-2.jsonl").write_text("noise\n", encoding="utf-8")
        log = RunLog(folder.out, folder.images, {"seed": 0}, names=NAMES)
        with pytest.raises(UnfinishedRun, match="damaged"):
            log.open()
        assert not log.cases

    def test_images_that_are_added_meanwhile_are_missed_until_their_shard_runs_again(self, folder):
        folder.finish(folder.log(1, 2, images=folder.images[1:]))
        other = folder.log(2, 2)
        missed = not Shard(2, 2).holds(NAMES[0])
        assert folder.finish(other).finished is not missed
        if missed:
            assert folder.finish(folder.log(1, 2)).finished
        assert [case["name"] for case in folder.document()["cases"]] == NAMES

    def test_two_masks_at_one_place_fail_both_images(self, folder):
        logs = [folder.log(1, 2), folder.log(2, 2)]
        for log in logs:
            records = folder.do(log, log.order()[1:])
            log.done(log.share[0], CASE, (folder.out / "same.png",))
            outcome = Outcome(log.images[log.share[0]], (folder.out / "same.png",), CASE, number=log.share[0], name="x")
            log.put_on_record(log.share[0], records.add(outcome))
            state = write_records(log, records, ended=True)
        assert state.finished and sorted(state.clashes) == sorted(log.share[0] for log in logs)
        assert [case["status"] for case in folder.document()["cases"]].count("failed") == 2


class TestLocks:
    def test_shards_of_one_count_run_side_by_side_and_others_do_not(self, tmp_path):
        with partial_folder(tmp_path, Shard(1, 2)) as first:
            (tmp_path / f"{PARTIAL}2-of-2-dead").mkdir()
            (tmp_path / f"{PARTIAL}dead").mkdir()
            with partial_folder(tmp_path, Shard(2, 2)):
                assert first.is_dir()
            assert not (tmp_path / f"{PARTIAL}2-of-2-dead").exists() and not (tmp_path / f"{PARTIAL}dead").exists()
            for shard, words in ((Shard(1, 2), "process on shard 1/2"), (Shard(1, 3), "of 2 shards"), (WHOLE, "of 2 shards")):
                with pytest.raises(BlockingIOError, match=words), partial_folder(tmp_path, shard):
                    pass
        with partial_folder(tmp_path), pytest.raises(BlockingIOError, match="another run"), partial_folder(tmp_path, Shard(1, 2)):
            pass
        assert not list(tmp_path.iterdir())

    def test_a_lock_file_that_a_killed_process_left_holds_nothing(self, tmp_path):
        (tmp_path / "lock").write_bytes(b"")
        assert not is_held(tmp_path / "lock") and not (tmp_path / "lock").exists()
        with hold(tmp_path / "lock", wait=True):
            assert is_held(tmp_path / "lock")


@dataclass(frozen=True)
class Doubles:
    """Doubles numbers in a worker; ends its process at 3, and at 2 the first time."""

    folder: Path

    def __call__(self):
        if (self.folder / "no weights").exists():
            raise OSError("no weights")
        return self.double

    def double(self, number):
        was_here = self.folder / "was here"
        if number == 3 or (number == 2 and not was_here.exists()):
            was_here.write_bytes(b"")
            os._exit(9)
        return 2 * number


def test_a_job_whose_process_died_is_done_once_more_after_all_others(tmp_path):
    begun = []
    with WorkerPool(Doubles(tmp_path), 1) as pool:
        finished = list(pool.each([1, 2, 4], begun.append))
    assert [(one.job, one.result, one.died) for one in finished] == [(1, 2, None), (4, 8, None), (2, 4, None)]
    assert begun == [1, 2, 4, 2]


def test_a_worker_that_cannot_begin_is_said(tmp_path):
    (tmp_path / "no weights").write_bytes(b"")
    with pytest.raises(WorkersFailed, match="no weights"), WorkerPool(Doubles(tmp_path), 1) as pool:
        list(pool.each([1]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "1/2", "--reset", "never"], "cannot be spread"),
        (["--workers", "2", "--reset", "never"], "cannot be spread"),
        (["--shard", "1/2", "--restart"], "--restart would forget"),
        (["--shard", "0/2"], "--array=1-N"),
    ],
)
def test_what_cannot_be_shared_is_refused(words, said, tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    done = CliRunner().invoke(app, ["run", "hippocampus_mri", str(tmp_path), "--out", str(tmp_path / "out"), *words])
    assert done.exit_code == 2 and said in " ".join(done.output.split()) and not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page's script is for bash")
def test_the_pages_array_job_starts_each_share_once(tmp_path):
    """Without SLURM: what its tasks would start. `python -m tests.attack.slurm` runs it under SLURM."""
    (tmp_path / "monai-tta").write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    (tmp_path / "monai-tta").chmod(0o755)
    script = page_script()
    tasks = range(1, int(re.search(r"--array=1-(\d+)", script)[1]) + 1)
    names = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "8"}
    shards = []
    for task in tasks:
        own = {**os.environ, **names, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        words = subprocess.run(["bash", "-c", script], env=own, capture_output=True, encoding="utf-8", check=True).stdout.split()
        shards.append(parse_shard(words[words.index("--shard") + 1]))
    assert shards == [Shard(task, len(tasks)) for task in tasks]


def test_torchrun_and_shard_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["run", "hippocampus_mri", str(tmp_path), "--out", str(tmp_path / "out"), "--shard", "1/2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "one or the other" in done.output


def test_workers_write_what_one_process_writes_and_one_that_dies_costs_one_image(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(6):
        save(tmp_path / "in" / f"c{number}.nii.gz", volume(rng))
    bundle = small_bundle(tmp_path / "bundle")
    words = ["run", bundle, tmp_path / "in", "--method", "grata", "--seed", "3", "--out"]
    assert CliRunner().invoke(app, list(map(str, [*words, tmp_path / "one"]))).exit_code == 0
    config = bundle / "configs" / "inference.yaml"
    text = config.read_text(encoding="utf-8")
    dies = "$lambda image: os._exit(9) if 'c1.nii' in image.meta['filename_or_obj'] else image"
    step = "- {_target_: NormalizeIntensityd, keys: image}"
    assert step in text
    config.write_text(text.replace(step, f'- {{_target_: Lambdad, keys: image, func: "{dies}"}}\n  {step}'), encoding="utf-8")
    done = CliRunner().invoke(app, list(map(str, [*words, tmp_path / "two", "--workers", "2"])))
    assert done.exit_code == 3 and "c1.nii.gz: the process that worked on it ended abruptly, twice (exit code 9)" in done.output
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert [record["status"] for record in two].count("failed") == 1 and two[1]["status"] == "failed"
    assert [r for r in one if r["number"] != 1] == [r for r in two if r["number"] != 1]
    expected, found = masks(tmp_path / "one"), masks(tmp_path / "two")
    assert found.keys() == expected.keys() - {"c1_seg.nii.gz"}
    assert all(np.array_equal(expected[name], found[name]) for name in found)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted([*found, "records.json", "records.csv"])


def test_shards_that_are_killed_and_resumed_write_what_one_process_writes():
    words = [sys.executable, "-m", "tests.attack.many", "--cases", "12", "--kills", "1", "--life", "0.1", "--only", "shards"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0 and "| 1 | 0 | 0 |" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_the_pages_arithmetic_can_be_made_anew(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in list(filter(Shard(1, 2).holds, NAMES))[:4]:
        save(tmp_path / "in" / f"{name}.nii.gz", volume(rng))
    words = ["many_studies", small_bundle(tmp_path / "bundle"), tmp_path / "in", "--method", "statistics", "--studies", "1000"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    many_studies.main()
    said = capsys.readouterr().out
    assert "measured on 4 cases: start " in said and "1,000 studies: " in said
    bytes_of = {
        key: int(n.replace(",", ""))
        for key, n in re.findall(r"(\w+) ([\d,]+)", said.partition("bytes of a case: ")[2].partition("\n")[0])
    }
    assert bytes_of.keys() == {"mask", "records", "journal"} and min(bytes_of.values()) > 50
