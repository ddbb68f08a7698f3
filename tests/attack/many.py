"""Many cases in shards, workers and processes of torchrun, killed at random moments and resumed: `python -m tests.attack.many`.

Each way must end in the masks, records and report of one undisturbed process, with every case done once and nothing left over.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.attack import promises
from tests.attack.arena import GIB, finish, launch, save, small_bundle, volume
from tests.attack.stops import figures, masks

LIMIT_S = 1800
END_S = 300  # a worker that is still importing torch ends after that, which a busy machine draws out
AT_ONCE = 2  # how many processes run at the same time
RUN_FILES = {"records.json", "records.csv", "report.html"}
DONE = re.compile(r"^\d+/\d+ (\S+) adapted,", re.M)


@dataclass
class Way:
    """One way to run all cases.

    Args:
        plan: rounds of commands, each a list of words to add; those of a round run side by side, each until it comes to its end.
        kills: how many processes are killed, in all.
        of_workers: whether every second kill is one of a worker, in the place of the process that started it.
        unfinished_rounds: how many of the first rounds are given up as soon as their share of the kills is spent.
        torchrun: how many processes torchrun starts; 0 for commands that are started by themselves.
    """

    plan: list
    kills: int
    of_workers: bool = False
    unfinished_rounds: int = 0
    torchrun: int = 0


@dataclass
class Tally:
    """What happened on the way."""

    starts: int = 0
    killed: int = 0
    killed_workers: int = 0
    notes: list = field(default_factory=list)
    found: list = field(default_factory=list)


def ways(kills):
    """The ways that are tried, with so many kills each."""
    return {
        "shards": Way([_shards(4)], kills),
        "workers": Way([[["--workers", "2"]]], kills // 2, of_workers=True),
        "16 shards, then 8, then one process": Way([_shards(16), _shards(8), [[]]], kills, unfinished_rounds=2),
        "shards with workers": Way([_shards(2, "--workers", "2")], kills // 2, of_workers=True),
        "torchrun": Way([[[]]], max(1, kills // 4), torchrun=2),
    }


def _shards(count, *more):
    return [["--shard", f"{index}/{count}", *more] for index in range(1, count + 1)]


def scene(folder, cases, seed):
    """Images, the fourth of them damaged, and the command without --out."""
    inside = folder / "in"
    inside.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(cases):
        save(inside / f"c{number:04d}.nii.gz", volume(rng))
    (inside / "c0003.nii.gz").write_bytes(b"damaged")
    return ["run", small_bundle(folder / "bundle"), inside, "--method", "statistics", "--seed", str(seed), "--report"]


class Runner:
    """Runs one way to its end, killing as it goes."""

    def __init__(self, way, words, folder, chance, life):
        self.way, self.words, self.folder, self.chance, self.life = way, words, folder, chance, life
        self.out = folder / "out"
        self.tally = Tally()
        self.struck = set()  # those that end because one of their processes was killed
        self.running = {}  # process id: words, note, how long it lives (None: to its end), since when

    def run(self):
        for number, commands in enumerate(self.way.plan):
            rounds = self.way.unfinished_rounds
            limit = self.way.kills * (number + 1) // (rounds + 1) if number < rounds else self.way.kills
            self._round(list(commands), limit, gives_up=number < rounds)
        return self.tally

    def _round(self, waiting, kills, gives_up):
        end = time.monotonic() + LIMIT_S
        while waiting or self.running:
            if gives_up and self.tally.killed >= kills:
                waiting.clear()
                for child in list(self.running):
                    self._kill(child)
            while waiting and len(self.running) < AT_ONCE:
                self._start(waiting.pop(0), self.tally.killed + len(self.running) < kills)
            for child in list(self.running):
                again = self._look(child)
                if again is not None and not gives_up:
                    waiting.append(again)
            if time.monotonic() > end:
                raise TimeoutError("the processes did not end")
            time.sleep(0.01)

    def _start(self, more, is_killed):
        note = self.folder / f"said{self.tally.starts:04d}"
        note.touch()
        self.tally.starts += 1
        words = [*self.words, "--out", self.out, *more]
        child = launch(words, note, memory=64 * GIB) if not self.way.torchrun else _torchrun(words, note, self.way.torchrun)
        self.tally.notes.append(note)
        self.running[child] = (more, note, self.chance.uniform(0, self.life) if is_killed else None, self._begun(note))

    def _begun(self, note):
        """When a life begins: with the process, or, every second time, with its first image. None where that is not yet."""
        waits = self.tally.starts % 2 or self.way.of_workers or self.way.torchrun
        return None if waits and not DONE.search(note.read_bytes().decode("utf-8", "replace")) else time.monotonic()

    def _look(self, child):
        """See whether a process ended; the words to start it again, or None."""
        more, note, life, begun = self.running[child]
        if life is not None and begun is None:
            begun = self._begun(note)
            self.running[child] = (more, note, life, begun)
        if life is not None and begun is not None and time.monotonic() > begun + life:
            is_worker = self.way.torchrun or (self.way.of_workers and self.tally.killed % 2)
            if not is_worker:
                self._kill(child)
                return more
            if workers := workers_of(child):  # none has begun yet: soon
                self._kill_one_of(workers, child)
            return None
        done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            return None
        del self.running[child]
        code = os.waitstatus_to_exitcode(status)
        if child in self.struck:  # torchrun ends with the process that was killed
            return more
        said = note.read_bytes().decode("utf-8", "replace")
        expected = (1,) if self.way.torchrun else (0, 3)  # torchrun's own code, where a process ended with 3
        if code not in expected or ("Traceback" in said and not self.way.torchrun):
            self.tally.found.append(f"ended with {code}: {said[-1500:]}")
        return None

    def _kill_one_of(self, workers, child):
        more, note, *_ = self.running[child]
        os.kill(self.chance.choice(workers), signal.SIGKILL)
        self.tally.killed += 1
        self.tally.killed_workers += 1
        self.running[child] = (more, note, None, None)
        if self.way.torchrun:
            self.struck.add(child)
        elif self.tally.killed < self.way.kills:  # the next one killed is the process itself, so no image ends two workers
            self.running[child] = (more, note, self.chance.uniform(0, self.life), time.monotonic())

    def _kill(self, child):
        workers = workers_of(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.tally.killed += 1
        del self.running[child]
        end = time.monotonic() + END_S
        while any(_is_alive(pid) for pid in workers):  # they end with the process that started them
            if time.monotonic() > end:
                self.tally.found.append("workers outlived the process that started them")
                return
            time.sleep(0.05)


def _torchrun(words, note, count):
    """Start torchrun, and return its process id."""
    from torch.distributed.run import main

    child = os.fork()
    if child:
        return child
    with open(note, "wb") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    try:
        main(["--standalone", "--nproc-per-node", str(count), "-m", "monai_tta", *map(str, words)])
        code = 0
    except BaseException:
        code = 1
    os._exit(code)


def workers_of(pid):
    """The processes that a process started to work for it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return [int(child) for child in children if any(word in _words(child) for word in ("multiprocessing-fork", "monai_tta"))]


def _words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _is_alive(pid):
    return bool(_words(pid))  # one that ended and that nobody waits for has none


def broken(out, reference, tally, cases):
    """What is not as in one undisturbed process."""
    found = list(tally.found)
    ours, theirs = figures(out), figures(reference)
    if [record["number"] for record in ours] != list(range(cases)):
        found.append("not every case is on record once")
    found += [f"another record: {mine['name']}" for mine, usual in zip(ours, theirs, strict=False) if mine != usual]
    got, wanted = masks(out), masks(reference)
    if got.keys() != wanted.keys() or any(not np.array_equal(got[name], wanted[name]) for name in got):
        found.append("masks differ")
    files = {path.name for path in out.iterdir()}
    found += [f"missing: {name}" for name in sorted(RUN_FILES - files)]
    if not json.loads((out / "records.json").read_text(encoding="utf-8"))["run"]["finished"]:
        found.append("the records say that the run is unfinished")
    left = sorted(files - {*wanted, *RUN_FILES})
    found += [f"left over: {', '.join(left)}"] if left else []
    said = [name for note in tally.notes for name in DONE.findall(note.read_bytes().decode("utf-8", "replace"))]
    found += [f"segmented twice: {name}" for name in sorted({name for name in said if said.count(name) > 1})]
    return found + promises.half_masks(out)


def main():
    """Run every way, print a row of a table for each, and end with 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=float, default=8.0, help="the longest that a process lives that is killed, in seconds")
    parser.add_argument("--only", action="append", help="a way's name; may be given several times")
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        words = scene(Path(name), arguments.cases, arguments.seed)
        reference = Path(name) / "reference"
        note = Path(name) / "said"
        first = finish(launch([*words, "--out", reference], note), note, limit=60 + 5 * arguments.cases)
        assert first.code == 3, first.said[-2000:]
        print(f"one process, undisturbed: {arguments.cases} cases, {first.seconds:.0f} s", flush=True)
        print("| way | starts | killed | of these workers | broken promises | s |\n|---|---|---|---|---|---|", flush=True)
        for title, way in ways(arguments.kills).items():
            if arguments.only and title not in arguments.only:
                continue
            folder = Path(name) / re.sub(r"\W+", "_", title)
            folder.mkdir()
            began = time.monotonic()
            tally = Runner(way, words, folder, random.Random(f"{arguments.seed} {title}"), arguments.life).run()
            found = broken(folder / "out", reference, tally, arguments.cases)
            bad += len(found)
            counts = f"{tally.starts} | {tally.killed} | {tally.killed_workers} | {len(found)}"
            print(f"| {title} | {counts} | {time.monotonic() - began:.0f} |", flush=True)
            for line in found:
                print(f"  {line}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
