"""A stopped run resumes, full disks and bad files are one line, nothing is half-written: see docs/reliability.md."""

import errno
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from monai_tta import AdaptiveInferer, Careful
from monai_tta.cli.app import app
from monai_tta.cli.console import describe_failure, make_printable
from monai_tta.core.record import Case
from monai_tta.pipeline import input_checks, output_folder
from monai_tta.pipeline.output_folder import PARTIAL, DiskFull, is_disk_full, partial_folder
from monai_tta.pipeline.records import Records, RunFacts
from monai_tta.pipeline.run_log import NAME, RunLog
from monai_tta.pipeline.segment import settings_of
from tests.attack import bundles, folders, names, promises, series, volumes
from tests.attack.arena import save, small_bundle, volume
from tests.small import stump

FAMILIES = {
    "v": volumes.FAMILY,
    "n": names.FAMILY,
    "s": series.FAMILY,
    "c": bundles.CHECKPOINTS,
    "b": bundles.CONFIGS,
    "f": folders.FAMILY,
}
CURED = (
    "v huge dims, compressed|v bomb|v affine of NaN|v NaN in places|v complex|v one voxel|v truncated, plain|n escape sequences|"
    "n bytes that are no text|n link to itself|n pipe as an argument|n as long as can be|s two series in one folder|"
    "s a slice missing|s dots for a name|c zip bomb|c torch archive that runs code|c NaN in a weight|c infinity in a weight|"
    "c values that are no tensors|b broken YAML|b a list|b a target that is not|b a transform that is not|"
    "b a network that is none|"
    "f where images are read from|f the same by a link|f a mask is called like its image|f records.json is a folder|"
    "f links at the names of temporary files|f run log torn|f run log of noise"
).split("|")


@pytest.mark.parametrize("which", CURED)
def test_each_cured_fault_stays_cured(which, tmp_path, monkeypatch):
    family, name = which.split(" ", 1)
    attack = FAMILIES[family][name](0, tmp_path)
    monkeypatch.chdir(tmp_path)
    if attack.before:
        attack.before()
    before = promises.fingerprints(tmp_path)
    done = CliRunner().invoke(app, list(map(str, attack.words)))
    said = done.output + ("" if done.exception is None or isinstance(done.exception, SystemExit) else "Traceback")
    assert not promises.broken(
        attack, type("R", (), {"code": done.exit_code, "said": said, "source_same": None}), tmp_path, before
    )


def test_a_sample_of_all_attacks():
    words = [sys.executable, "-m", "tests.attack", "--count", "40"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


class Place:
    """Three images, and the command that segments them."""

    def __init__(self, root):
        self.root, self.out = root, root / "out"
        rng = np.random.default_rng(0)
        (root / "in").mkdir()
        for name in "abc":
            save(root / "in" / f"{name}.nii.gz", volume(rng))
        small_bundle(root / "bundle")

    def run(self, *more):
        words = ["run", self.root / "bundle", self.root / "in", "--out", self.out, "--method", "tent", *more]
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, " ".join(done.output.split())

    def there(self):
        return sorted(p.name for p in self.out.iterdir())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@contextmanager
def stopping_at(monkeypatch, number):
    """Stop runs when they segment this image."""
    answered, real = [], AdaptiveInferer.__call__

    def call(self, *args, **kwargs):
        answered.append(1)
        if len(answered) == number + 1:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(AdaptiveInferer, "__call__", call)
        yield


class TestResuming:
    def stopped(self, place, monkeypatch, *more):
        with stopping_at(monkeypatch, 1):
            return place.run(*more)

    def test_a_stopped_run_resumes(self, place, monkeypatch):
        code, said = self.stopped(place, monkeypatch)
        assert code == 130 and "interrupted; 1 of 3 segmented" in said
        assert place.there() == [NAME, "a_seg.nii.gz", "records.csv", "records.json"]
        stopped = json.loads((place.out / "records.json").read_text(encoding="utf-8"))
        assert [r["name"] for r in stopped["cases"]] == ["a"] and stopped["run"]["images"] == 3 and not stopped["run"]["finished"]
        assert "a.nii" not in (place.out / NAME).read_text(encoding="utf-8") and "a_seg" not in (place.out / NAME).read_text(
            encoding="utf-8"
        )
        written = (place.out / "a_seg.nii.gz").stat().st_mtime_ns
        code, said = place.run()
        assert code == 0 and "3 of 3 segmented (1 of them before" in said
        assert (place.out / "a_seg.nii.gz").stat().st_mtime_ns == written
        records = json.loads((place.out / "records.json").read_text(encoding="utf-8"))["cases"]
        assert [r["number"] for r in records] == [0, 1, 2]
        assert place.there() == ["a_seg.nii.gz", "b_seg.nii.gz", "c_seg.nii.gz", "records.csv", "records.json"]
        code, said = place.run()
        assert code == 0 and "before" not in said, "a run that came to its end is over"

    def test_other_settings_are_refused_unless_the_run_restarts(self, place, monkeypatch):
        self.stopped(place, monkeypatch)
        code, said = place.run("--seed", "3")
        assert code == 2 and "unfinished run with another seed" in said
        code, said = place.run("--seed", "3", "--restart")
        assert code == 0 and "before" not in said

    def test_a_continual_run_cannot_resume(self, place, monkeypatch):
        self.stopped(place, monkeypatch, "--reset", "never")
        code, said = place.run("--reset", "never")
        assert code == 2 and "--restart starts from the first image" in said
        assert place.run("--reset", "never", "--restart")[0] == 0

    def test_a_run_that_was_refused_leaves_nothing_behind(self, place):
        assert place.run("--head", "tanh")[0] == 2 and place.there() == []

    def test_a_mask_that_was_lost_is_made_again(self, place, monkeypatch):
        self.stopped(place, monkeypatch)
        (place.out / "a_seg.nii.gz").unlink()
        code, said = place.run()
        assert code == 0 and "before" not in said and "a_seg.nii.gz" in place.there()

    def test_an_image_that_ends_the_process_comes_last(self, place):
        place.out.mkdir()
        images = sorted((place.root / "in").iterdir())
        first = RunLog(place.out, images, {})
        first.open()
        first.begin(0)
        again = RunLog(place.out, images, {})
        again.open()
        assert first.order() == [0, 1, 2] and again.order() == [1, 2, 0]

    def test_one_image_given_twice_is_two_images(self, tmp_path):
        image = save(tmp_path / "a.nii.gz", np.zeros((2, 2, 2), np.float32))
        run_log = RunLog(tmp_path, [image, image], {})
        run_log.open()
        case = Case(number=0, network="", method="", head="", learn="", reset="", seed=0, shape=())
        run_log.done(0, case, (image,))
        again = RunLog(tmp_path, [image, image], {})
        again.open()
        assert again.cases == {0: case} and again.order() == [1]

    def test_a_new_gain_predictor_under_the_same_name_is_another_setting(self, place):
        file = place.root / "mine.npz"

        def settings():
            return settings_of(place.root / "bundle", "model.pt", Careful(predictor=str(file)), {})

        stump().save(file)
        before = settings()
        assert before == settings()
        stump(low=0.3).save(file)
        assert {name for name in before if before[name] != settings()[name]} == {"method file"}


class TestFolder:
    def test_only_one_run_at_a_time(self, place):
        with partial_folder(place.out):
            code, said = place.run()
        assert code == 2 and "another run is writing into" in said
        assert place.run()[0] == 0

    def test_what_killed_runs_left_is_removed_and_nothing_else(self, place):
        for name in (f"{PARTIAL}dead", ".partial-mine"):
            (place.out / name).mkdir(parents=True)
        assert place.run()[0] == 0
        assert [name for name in place.there() if name.startswith(".")] == [".partial-mine"]

    def test_a_full_disk_ends_the_run_which_can_resume(self, place, monkeypatch):
        real = os.replace

        def full(old, new):
            if "b_seg" in str(new):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))
            real(old, new)

        with monkeypatch.context() as patched:
            patched.setattr(output_folder.os, "replace", full)
            code, said = place.run()
        assert code == 2 and "no room to write in" in said and "No space left" in said
        assert not [name for name in place.there() if ".partial" in name]
        code, said = place.run()
        assert code == 0 and "(1 of them before" in said

    def test_a_writers_full_disk_is_told_from_an_image_that_cannot_be_written(self):
        words = "SaveImage cannot find a suitable writer for x\\nTraceback\\nOSError: [Errno {}] no"
        assert is_disk_full(RuntimeError(words.format(errno.ENOSPC))) and not is_disk_full(
            RuntimeError(words.format(errno.ENAMETOOLONG))
        )
        wrapped = RuntimeError("applying transform")
        wrapped.__cause__ = OSError(errno.EDQUOT, "quota")
        assert is_disk_full(wrapped) and issubclass(DiskFull, OSError)

    def test_records_are_written_whole_or_not_at_all(self, tmp_path, monkeypatch):
        file = tmp_path / "records.json"
        Records(tmp_path, RunFacts(command="", settings={}), 0).write(finished=True)
        before = file.read_text(encoding="utf-8")
        monkeypatch.setattr(output_folder.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "i/o")))
        with pytest.raises(OSError, match="i/o"):
            Records(tmp_path, RunFacts(command="other", settings={}), 1).write(finished=True)
        assert file.read_text(encoding="utf-8") == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["records.csv", "records.json"]


def test_a_leading_tilde_is_part_of_a_name(place, monkeypatch):
    (place.root / "in" / "a.nii.gz").rename(place.root / "in" / "~root.nii.gz")
    monkeypatch.chdir(place.root / "in")
    words = ["run", place.root / "bundle", "./~root.nii.gz", "--out", place.out, "--method", "source"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0 and "~root_seg.nii.gz" in place.there()


def test_an_image_too_large_for_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    image = save(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.float32))
    input_checks.check_input_file(image)
    monkeypatch.setattr(input_checks, "_memory", lambda: 20**3 * 8 - 1)
    with pytest.raises(ValueError, match="at least 62 KiB of memory"):
        input_checks.check_input_file(image)


def test_messages_can_be_printed_on_any_terminal():
    assert make_printable("a\x1b[2J\nb\udcff") == "a\\x1b[2J\\nb\\udcff" and make_printable("\u738b", "ascii") == "\\u738b"
    assert len(make_printable("x" * 10**6)) < 3000
    assert describe_failure(MemoryError()) == "MemoryError: out of memory" and describe_failure(ValueError("a\nb")) == "a b"
