"""A process that is killed at any step of a run's end: whoever starts next does no image again, and the run ends complete."""

import itertools
import os
import shutil
import sys
import traceback

import pytest

from monai_tta.pipeline import shard_records
from monai_tta.pipeline.journal import Journal, UnfinishedRun, is_over
from monai_tta.pipeline.outcome import earlier_outcome
from monai_tta.pipeline.output_folder import write_atomically
from monai_tta.pipeline.shard_records import wait_for_others, write_records
from monai_tta.pipeline.shards import Shard
from tests.shard_folder import NAMES, ShardFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is killed in a fork of this one")
STEPS = {"open", "os.remove", "os.rename"}  # what Python tells an audit hook before it does it
KILLED = 9


def is_killed(call, steps, folder):
    """Whether a process that makes this call is killed after so many steps on files of a folder; False where it ends first."""

    def count(event, arguments):
        nonlocal steps
        if event in STEPS and str(arguments[0]).startswith(str(folder)):
            steps -= 1
            if steps < 0:
                os._exit(KILLED)

    child = os.fork()
    if not child:
        sys.addaudithook(count)
        try:
            call()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


class Folder(ShardFolder):
    """One for whose images it can be said which process does them, and how each ends."""

    def copy(self, root):
        """The same in another place."""
        shutil.copytree(self.out.parent, root)
        copy = ShardFolder.__new__(Folder)
        copy.out = root / "out"
        copy.images = [root / image.name for image in self.images]
        return copy

    def begin(self, shard):
        """What a process knows that starts now; no image is left for it to be done."""
        log = self.log(shard.index, shard.count)
        assert not log.order(), "images are done again"
        records = self.records(log)
        for number in sorted(log.of_earlier_run):
            log.put_on_record(number, records.add(earlier_outcome(log, number)))
        return log, records

    def write_page(self):
        write_atomically(self.out / "report.html", "page")

    def end(self, shard):
        """Start a process, and let it come to its end; one that is told that the run is over was too late."""
        try:
            log, records = self.begin(shard)
        except UnfinishedRun as error:
            assert "came to its end" in str(error)
            self.check()
        else:
            write_records(log, records, ended=True, then=self.write_page)

    def begin_to_wait(self):
        """Bring a process on the first of two shards, which is this one, to its end."""
        self.waiting = self.begin(Shard(1, 2))
        write_records(*self.waiting, ended=True)

    def check(self):
        document = self.document()
        assert document["run"]["finished"] and [case["name"] for case in document["cases"]] == NAMES
        visible = {path.name for path in self.out.iterdir() if path.suffix != ".png" and not path.name.startswith(".")}
        assert visible == {"records.json", "records.csv", "report.html"}


@pytest.fixture
def done(tmp_path):
    """Two shards, all of whose images are done; the first is at its end."""
    (tmp_path / "done").mkdir()
    folder = Folder(tmp_path / "done")
    for index in (1, 2):
        log = folder.log(index, 2)
        records = folder.do(log, log.order())
        if index == 1:
            write_records(log, records, ended=True)
    return folder


def killed_ends(folder, shard, at_least, before=lambda copy: None):
    """Copies of a folder, in each of which a process that starts now is killed after one more step, up to the last one."""
    for steps in itertools.count():
        copy = folder.copy(folder.out.parent.with_name(f"{folder.out.parent.name}, killed after {steps}"))
        before(copy)
        if not is_killed(lambda: copy.end(shard), steps, copy.out):  # noqa: B023
            assert steps > at_least
            copy.check()
            return
        yield copy


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shards_that_start_again_do_no_image_again(order, done):
    for folder in killed_ends(done, Shard(2, 2), 20):
        for index in order:
            folder.end(Shard(index, 2))
        folder.check()
        assert not folder.left()


@pytest.mark.parametrize("index", [1, 2])
def test_one_that_is_killed_while_it_removes_what_another_one_left(index, done):
    are_over = [folder for folder in killed_ends(done, Shard(2, 2), 20) if is_over(folder.out)]
    assert len(are_over) > 2
    for folder in are_over:
        for again in killed_ends(folder, Shard(index, 2), 2):
            again.end(Shard(3 - index, 2))
            again.check()
            assert not again.left()


def test_one_that_waits_leaves_when_all_is_there(done, monkeypatch):
    monkeypatch.setattr(shard_records, "_LOOK_S", 0.0)
    waited = 0
    for folder in killed_ends(done, Shard(2, 2), 20, Folder.begin_to_wait):
        if Journal(folder.out, Shard(2, 2)).has_ended() or is_over(folder.out) or not folder.waiting[0].journal.path.exists():
            waited += 1
            wait_for_others(*folder.waiting, folder.write_page, lambda: None)
            folder.check()
            assert not folder.left()
    assert waited > 10


def test_one_process_after_shards_resumes_or_begins_anew_but_never_in_part(done):
    for folder in killed_ends(done, Shard(2, 2), 20):
        was_over = is_over(folder.out) or not list(folder.out.glob(".monai_tta_run*.jsonl"))
        log = folder.log()
        assert len(log.order()) == (len(NAMES) if was_over else 0)


def test_one_process_that_took_over_from_shards(done):
    for folder in killed_ends(done, Shard(), 20):
        if list(folder.out.glob(".monai_tta_run*.jsonl")):
            folder.end(Shard())
        folder.check()
