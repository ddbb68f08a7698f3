"""How shards end: one that waits leaves when the records and the report of all are there, whoever died over them."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from monai_tta.pipeline import folder_locks, shard_records
from monai_tta.pipeline.folder_locks import FOLDER_LOCK
from monai_tta.pipeline.journal import OVER, UnfinishedRun
from monai_tta.pipeline.shard_records import wait_for_others, write_records
from monai_tta.pipeline.shards import Shard
from tests.attack.arena import save, small_bundle, volume
from tests.shard_folder import NAMES, ShardFolder

HOLD_AND_DIE = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(0.5)
os._exit(9)
"""


class TwoShards(ShardFolder):
    """Two shards whose images are all done; the first is at its end and waits.

    Attributes:
        pages: how often the report was written.
    """

    def __init__(self, root):
        super().__init__(root)
        self.first, self.last = self.log(1, 2), self.log(2, 2)
        self.records_of_first = self.do(self.first, self.first.order())
        self.records_of_last = self.do(self.last, self.last.order())
        write_records(self.first, self.records_of_first, ended=True)
        self.pages = 0
        self.begun = threading.Event()

    def write_page(self, seconds=0.0):
        self.begun.set()
        time.sleep(seconds)
        self.pages += 1

    def end_last(self, seconds):
        return write_records(self.last, self.records_of_last, ended=True, then=lambda: self.write_page(seconds))

    def wait(self, say_waits=lambda: None):
        return wait_for_others(self.first, self.records_of_first, self.write_page, say_waits)

    def is_complete(self):
        document = self.document()
        names = [case["name"] for case in document["cases"]]
        return document["run"]["finished"] and names == NAMES and self.pages == 1 and not self.left()


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_records, "_LOOK_S", 0.02)
    return TwoShards(tmp_path)


def test_one_that_waits_leaves_only_when_records_and_report_of_all_are_there(shards):
    said = []
    with ThreadPoolExecutor(2) as threads:
        waits = threads.submit(shards.wait, lambda: said.append("waits"))
        time.sleep(0.1)
        assert not waits.done() and not shards.document()["run"]["finished"]
        ends = threads.submit(shards.end_last, 1.0)
        assert shards.begun.wait(30)
        assert waits.result() is None and shards.is_complete()
        assert ends.result().finished and said == ["waits"]


def test_it_puts_all_together_itself_where_the_last_one_died_over_it(shards):
    shards.last.end()
    holder = subprocess.Popen([sys.executable, "-c", HOLD_AND_DIE, shards.out / FOLDER_LOCK], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    state = shards.wait(lambda: pytest.fail("all were at their end"))
    assert holder.wait() == 9  # the lock was let go by its death alone
    assert state.finished and state.on_record == len(NAMES) and shards.is_complete()


def test_it_leaves_what_is_complete_where_the_last_one_died_over_removing_the_journals(shards):
    shards.end_last(0.0)
    records = (shards.out / "records.json").read_bytes()
    shards.first.journal.write([{"settings": shards.first.settings}, {"ended": True}])
    (shards.out / OVER).touch()
    assert shards.wait() is None
    assert shards.is_complete() and (shards.out / "records.json").read_bytes() == records


def test_it_says_so_where_images_were_added_and_the_run_cannot_finish(tmp_path):
    folder = ShardFolder(tmp_path)
    images = [image for image, name in zip(folder.images, NAMES, strict=True) if name != next(filter(Shard(2, 2).holds, NAMES))]
    folder.finish(folder.log(2, 2, images=images))
    first = folder.log(1, 2)
    records = folder.do(first, first.order())
    write_records(first, records, ended=True)
    state = wait_for_others(first, records, lambda: pytest.fail("not finished"), lambda: None)
    assert not state.finished and not state.unfinished and state.on_record == len(NAMES) - 1


def test_without_locks_the_last_one_gets_some_time(shards, monkeypatch):
    monkeypatch.setattr(folder_locks, "fcntl", None)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(shards.end_last, 0.5)
        assert shards.begun.wait(30) and shards.wait() is None and shards.is_complete()


def test_without_locks_one_that_died_is_not_waited_for_for_ever(shards, monkeypatch):
    monkeypatch.setattr(folder_locks, "fcntl", None)
    monkeypatch.setattr(shard_records, "_WITHOUT_LOCKS_S", 0.1)
    shards.last.end()
    assert shards.wait().finished and shards.is_complete()


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_is_over_is_not_made_unfinished_by_one_that_is_stopped_afterwards(count, tmp_path):
    folder = ShardFolder(tmp_path)
    logs = [folder.log(index, count) for index in range(1, count + 1)]
    records = [folder.do(log, log.order()) for log in logs]
    for log, own in zip(logs, records, strict=True):
        write_records(log, own, ended=True)
    before = (folder.out / "records.json").read_bytes()
    assert json.loads(before)["run"]["finished"]
    write_records(logs[0], records[0], ended=False)
    assert (folder.out / "records.json").read_bytes() == before


@pytest.mark.parametrize("count", [1, 2])
def test_a_report_that_cannot_be_written_leaves_a_run_that_resumes(count, tmp_path):
    def full():
        raise OSError("the disk is full")

    folder = ShardFolder(tmp_path)
    for index in range(1, count):
        folder.finish(folder.log(index, count))
    last = folder.log(count, count)
    with pytest.raises(OSError, match="full"):
        write_records(last, folder.do(last, last.order()), ended=True, then=full)
    again = folder.log(count, count)
    assert not again.order() and folder.finish(again).finished and not folder.left()


@pytest.mark.parametrize(
    "line",
    [
        {"starts": ["yesterday"]},
        {"starts": 7},
        {"done": 0, "case": {}, "masks": []},
        {"done": 0, "masks": []},
        {"recorded": 0},
    ],
)
def test_a_line_of_another_shard_that_is_damaged_is_refused_in_words(line, tmp_path):
    folder = ShardFolder(tmp_path)
    first, last = (folder.log(index, 2) for index in (1, 2))
    folder.do(first, first.order())
    of_first = next(key for key, number in last.number_of.items() if number not in last.share)
    first.journal.append({key: of_first if value == 0 else value for key, value in line.items()})
    records = folder.do(last, last.order())
    with pytest.raises(UnfinishedRun, match=r"1-of-2\.jsonl is damaged; "):
        write_records(last, records, ended=True)


def scene(root, names):
    """Small images of these names, the first of them damaged, and the command without --out."""
    inside = root / "in"
    inside.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        save(inside / f"{name}.nii.gz", volume(rng))
    (inside / f"{names[0]}.nii.gz").write_bytes(b"damaged")
    return ["run", str(small_bundle(root / "bundle")), str(inside), "--method", "statistics", "--report"]


def check_complete(out, names):
    """Check that the records of all are there, finished, and one report of all, and nothing else but masks."""
    document = json.loads((out / "records.json").read_text(encoding="utf-8"))
    assert document["run"]["finished"] and [case["name"] for case in document["cases"]] == names
    assert [case["status"] for case in document["cases"]].count("failed") == 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    left = {path.name for path in out.iterdir()} - {"records.json", "records.csv", "report.html"}
    assert len(left) == len(names) - 1 and all(name.endswith("_seg.nii.gz") for name in left)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_last_of_two_shards_leaves_one_report_of_all_cases(order, tmp_path):
    names = ["c0", "c1", "c2", "c3"]
    assert {Shard(1, 2).holds(name) for name in names} == {True, False}
    words = scene(tmp_path, names)
    out = tmp_path / "out"
    codes = []
    for index in order:
        assert not (out / "report.html").exists()
        codes.append(CliRunner().invoke(app, [*words, "--out", str(out), "--shard", f"{index}/2"]).exit_code)
    assert sorted(codes) == [0, 3]  # that of the damaged image, and the other
    check_complete(out, names)


def test_torchrun_with_a_damaged_image_ends_with_the_records_and_report_of_all(tmp_path):
    others = [name for name in NAMES if Shard(2, 2).holds(name)][:3]
    names = sorted([next(filter(Shard(1, 2).holds, NAMES)), *others])
    damaged_first = sorted(names, key=Shard(2, 2).holds)  # alone in its share: that process is at its end first
    words = scene(tmp_path, damaged_first)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "monai_tta"]
    command = [sys.executable, *torchrun, *words, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=600)
    assert done.returncode != 0 and "waiting for the other processes" in done.stdout + done.stderr, done.stderr[-3000:]
    check_complete(tmp_path / "out", names)
