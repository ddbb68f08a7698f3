"""Progress: a bar on a terminal, else a line per case with the time left."""

import io
import time

import pytest
from rich.console import Console

from monai_tta.cli import console as printing
from monai_tta.cli import progress as showing
from monai_tta.cli.progress import ProgressBar, ProgressLines, describe_duration, show_progress


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_a_line_per_case_with_the_time_left(capsys, clock):
    with ProgressLines("segmenting", 20, "images", clock).speaking() as progress:
        for name, seconds in (("a", 4.0), ("b", 4.0), ("c", 10.0)):
            clock.now += seconds
            progress.advance(f"{name}.nii.gz adapted, {seconds} s")
    assert lines_of(capsys) == [
        "segmenting 20 images",
        "1/20 a.nii.gz adapted, 4.0 s; about 76 s left",
        "2/20 b.nii.gz adapted, 4.0 s; about 72 s left",
        "3/20 c.nii.gz adapted, 10.0 s; about 2 min left",
    ]


def test_one_image_is_not_images(capsys, clock):
    with ProgressLines("segmenting", 1, "images", clock).speaking():
        pass
    assert lines_of(capsys) == ["segmenting 1 image"]


def test_what_an_earlier_run_did_says_nothing_about_the_time_left(capsys, clock):
    with ProgressLines("segmenting", 4, clock=clock).speaking() as progress:
        progress.advance("a was done before", counts=False)
        progress.advance("b was done before", counts=False)
        clock.now = 30.0
        progress.advance("c adapted")
        progress.advance("d adapted")
    assert lines_of(capsys)[1:] == [
        "1/4 a was done before",
        "2/4 b was done before",
        "3/4 c adapted; about 30 s left",
        "4/4 d adapted",
    ]


def test_jobs_that_come_several_at_once_are_counted(capsys, clock):
    with ProgressLines("comparing", None, clock=clock).speaking() as progress:
        progress.move_to(0, None, "jobs done, with a failure")
        clock.now = 50.0
        progress.move_to(5, 10, "jobs done")
        clock.now = 60.0
        progress.move_to(6, 10, "jobs done")
    assert lines_of(capsys) == [
        "comparing",
        "0 jobs done, with a failure",
        "5/10 jobs done; about 50 s left",
        "6/10 jobs done; about 40 s left",
    ]


def test_a_log_is_not_silent_while_one_case_takes_long(capsys):
    with ProgressLines("segmenting", 2, silence=0.05).speaking() as progress:
        time.sleep(0.5)
        progress.advance("a adapted")
    said = lines_of(capsys)
    assert any(line.startswith("0/2 done; still segmenting, after") for line in said) and "1/2 a adapted" in said[-1]


def test_names_cannot_move_the_cursor_of_a_log(capsys, clock):
    with ProgressLines("segmenting", 1, clock=clock).speaking() as progress:
        progress.advance("a\x1b[2J[red].nii adapted")
    assert lines_of(capsys)[-1] == "1/1 a\\x1b[2J[red].nii adapted"


def test_a_terminal_keeps_its_bar(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(showing, "console", screen)
    monkeypatch.setattr(showing, "is_interactive", lambda: True)
    with show_progress("segmenting", 2) as progress:
        assert isinstance(progress, ProgressBar)
        progress.advance("a adapted")
        progress.advance("b adapted")
    said = screen.file.getvalue()
    assert "segmenting" in said and "100%" in said and "a adapted" not in said


def test_a_log_is_no_terminal_whatever_the_environment_forces(monkeypatch):
    monkeypatch.setattr(printing, "console", Console(file=io.StringIO(), force_terminal=True))
    assert not printing.is_interactive()
    monkeypatch.setattr("sys.stderr", None)
    assert not printing.is_interactive()


def test_durations_are_in_the_unit_that_a_reader_expects():
    given = (0.2, 40, 89, 300, 5000, 9000)
    assert [describe_duration(s) for s in given] == ["1 s", "40 s", "89 s", "5 min", "83 min", "2.5 h"]
