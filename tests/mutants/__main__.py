"""Break the code in named ways and report whether the tests notice: `python -m tests.mutants [WORDS OF A NAME]`.

Each mutant is a replacement in one file of a copy of the package; the working tree is never touched. The test that caught a
mutant is kept in `caught_by.json` and asked first the next time. What that file says is a guess about where to look: a mutant
is caught only by a test that fails now, and where the guess is wrong all its tests are asked.
"""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, OWN, PROCESSES, TESTS

ROOT = Path(__file__).parent.parent.parent
KNOWN = Path(__file__).parent / "caught_by.json"
CAUGHT = 10  # exit codes of a mutant's process
SURVIVED = 11
# What is not of this project and takes seconds to import, once for all mutants.
PRELOADED = (
    "torch", "monai.bundle", "monai.engines", "monai.handlers", "monai.inferers", "monai.losses", "monai.metrics",
    "monai.networks.nets", "monai.transforms", "nibabel", "SimpleITK", "scipy.ndimage", "sklearn.ensemble", "matplotlib.pyplot",
    "typer.testing", "hypothesis", "jsonschema",
)  # fmt: skip
SLOW = "not profile and not cohort and not bundle_over"  # and about no mutant


class LastTest:
    """A pytest plugin that keeps, in a file, which test is running. It is the one that failed, or crashed, when pytest has ended.

    A file that cannot be imported counts as a test.
    """

    def __init__(self, note: Path) -> None:
        self.note = note

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep the name of the test that begins."""
        self.note.write_text(nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the name of the file that cannot be imported."""
        if report.failed:
            self.note.write_text(report.nodeid, encoding="utf-8")


def caught_by(name: str, known: str | None) -> str | None:
    """The test that fails with this mutant in place; None where all pass. ``known`` is the one that failed the last time."""
    file, old, new = MUTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy_into(Path(folder))
        target = copy / "monai_tta" / file
        text = target.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"mutant {name!r} no longer fits {file}: {old!r} is not there")
        target.write_text(text.replace(old, new), encoding="utf-8")
        if known and (copy / known.partition("::")[0]).exists() and (again := _failure(copy, [known], is_guess=True)):
            return again
        return next((failed for tests in _stages(file) if (failed := _failure(copy, _paths(tests)))), None)


def fails_unbroken(tests: list[str]) -> str | None:
    """The first of these tests that fails with the code as it is; None where all pass."""
    with tempfile.TemporaryDirectory() as folder:
        return _failure(_copy_into(Path(folder)), tests) if tests else None


def _copy_into(copy: Path) -> Path:
    for part in ("monai_tta", "transforms", "bundles", "tests"):
        shutil.copytree(ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", copy)
    return copy


def _stages(file: str) -> list[list[str]]:
    """The tests that are asked about a mutant of this file, one stage after the other until one fails.

    The nearest come first, because most mutants are caught there, and the laws take minutes.
    """
    own = OWN.get(max((place for place in OWN if file.startswith(place)), key=len, default=""))  # the nearest place's
    if own:
        return [own]
    package, module = Path(file).parts[0], Path(file).stem
    namesake = [f"{package}/test_{module}"] if (ROOT / "tests" / package / f"test_{module}.py").exists() else []
    nearest = [[test] for test in (*namesake, package) if test in (*namesake, *TESTS)]
    return [*nearest, [test for test in TESTS if test != package], [PROCESSES]]


def _paths(tests: list[str]) -> list[str]:
    return [f"tests/{test}.py" if "test_" in test else f"tests/{test}" for test in tests]


def _failure(copy: Path, tests: list[str], is_guess: bool = False) -> str | None:
    """The first test that fails in this copy. They run in a fork of this process, which has torch and MONAI loaded."""
    note = copy / "last_test"
    child = os.fork()
    if not child:
        os._exit(_run_pytest(copy, [str(copy / test) for test in tests], note))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == pytest.ExitCode.OK:
        return None
    if code in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):  # the second: a test of another name
        if is_guess:
            return None
        raise SystemExit(f"no test was run of {', '.join(tests)}: a mutant would seem to be caught")
    return note.read_text(encoding="utf-8")


def _run_pytest(copy: Path, files: list[str], note: Path) -> int:
    """Run these test files in this process, on the copy of the package; what they print is dropped."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("monai_tta", "tests")]:
        del sys.modules[name]
    file = str(copy / "tests" / f"{PROCESSES}.py")
    last = [] if any(asked.startswith(file) for asked in files) else ["--ignore", file]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", SLOW, "--rootdir", str(copy)]
    return int(pytest.main([*options, *last, *files], plugins=[LastTest(note)]))


def _answers(names: list[str], known: dict[str, str], workers: int) -> Iterator[tuple[str, str | None]]:
    """Each mutant, as it is done, and the test that caught it. One process for each mutant, so many at once."""
    waiting = list(reversed(names))
    running: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < workers:
                name = waiting.pop()
                child = os.fork()
                if not child:
                    os._exit(_answer(name, known.get(name), Path(folder)))
                running[child] = name
            child, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            if code not in (CAUGHT, SURVIVED):
                raise SystemExit(f"mutant {running[child]!r}: it could not be told whether it survives")
            note = Path(folder) / str(child)
            yield running.pop(child), note.read_text(encoding="utf-8") if code == CAUGHT else None


def _answer(name: str, known: str | None, folder: Path) -> int:
    try:
        test = caught_by(name, known)
        if test is None:
            return SURVIVED
        (folder / str(os.getpid())).write_text(test, encoding="utf-8")
        return CAUGHT
    except BaseException:  # nothing may leave this process but an exit code: above is the code of the one that forked it
        traceback.print_exc()
        return 1


def main() -> None:
    """Report every mutant; end with 1 when one survives."""
    chosen = [name for name in MUTANTS if " ".join(sys.argv[1:]) in name]
    for module in PRELOADED:
        import_module(module)
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    found: dict[str, str | None] = {}
    for name, test in _answers(chosen, known, os.cpu_count() or 1):
        found[name] = test
        sys.stdout.write(f"caught    {name}  ({test})\n" if test else f"SURVIVED  {name}\n")
        sys.stdout.flush()
        tests = {mutant: test for mutant, test in (known | found).items() if test and mutant in MUTANTS}
        KNOWN.write_text(json.dumps(dict(sorted(tests.items())), indent=1) + "\n", encoding="utf-8")
    if failed := fails_unbroken(sorted({test for test in found.values() if test})):
        raise SystemExit(f"{failed} fails without any mutant: nothing is known of those that it caught")
    alive = [name for name, test in found.items() if test is None]
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught, by tests that pass without a mutant\n")
    raise SystemExit(1 if alive else 0)


if __name__ == "__main__":
    main()
