"""What many studies take, measured on a few: `python -m docs.many_studies BUNDLE IMAGES [--studies 100000] [--workers 16]`.

It segments half of the images as shard 1/2, then one of them alone, each in a process with one thread, and prints the figures of
docs/many-studies.md. Seconds are processor seconds, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_tta.cli.console import print_line


@dataclass(frozen=True)
class Measured:
    """What a run of some cases took.

    Args:
        cases: how many were segmented.
        seconds: of the processor, with the start.
        memory: the largest resident size of the process, in MiB.
        journal: bytes of the journal.
        records: bytes of records.json and records.csv.
        masks: bytes of all masks.
    """

    cases: int
    seconds: float
    memory: float
    journal: int
    records: int
    masks: int


def measure(words: Sequence[str], out: Path) -> Measured:
    """Run a command that segments a shard, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "monai_tta", *words, "--out", str(out), "--shard", "1/2"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cases = json.loads((out / "records.json").read_text(encoding="utf-8"))["cases"]
    return Measured(
        cases=len(cases),
        seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        memory=max(case["peak_memory"] for case in cases),
        journal=sum(path.stat().st_size for path in out.glob(".monai_tta_run.*.jsonl")),
        records=sum((out / name).stat().st_size for name in ("records.json", "records.csv")),
        masks=sum((out / name).stat().st_size for case in cases for name in case["masks"]),
    )


def main() -> None:
    """Measure, and print the arithmetic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("images", type=Path, help="a folder of at least eight images")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--method", default=None)
    arguments = parser.parse_args()
    words = ["run", arguments.bundle, str(arguments.images)]
    words += [] if arguments.method is None else ["--method", arguments.method]
    with tempfile.TemporaryDirectory() as name:
        many = measure(words, Path(name) / "many")
        first = next(path for path in sorted((Path(name) / "many").glob("*_seg*")))
        image = next(path for path in arguments.images.rglob(f"{first.name.split('_seg')[0]}*"))
        one = measure([*words[:2], str(image), *words[3:]], Path(name) / "one")
    if one.cases != 1 or many.cases < 4:
        raise SystemExit("too few images fall to shard 1/2: give more")
    each = (many.seconds - one.seconds) / (many.cases - 1)
    start = one.seconds - each
    studies, workers = arguments.studies, arguments.workers
    hours = studies * each / 3600
    sizes = {"mask": many.masks, "records": many.records, "journal": many.journal}
    disk = {key: studies * size / many.cases / 2**30 for key, size in sizes.items()}
    print_line(f"measured on {many.cases} cases: start {start:.1f} s, each case {each:.2f} s, process {many.memory:,.0f} MiB")
    print_line("bytes of a case: " + ", ".join(f"{key} {size / many.cases:,.0f}" for key, size in sizes.items()))
    print_line(f"{studies:,} studies: {hours:,.1f} processor hours, {hours / workers:,.1f} h by {workers} workers")
    print_line(f"memory of {workers} workers and the process that starts them: {(workers + 1) * many.memory / 1024:,.1f} GiB")
    print_line(f"disk: {', '.join(f'{key} {size:,.2f} GiB' for key, size in disk.items())}")


if __name__ == "__main__":
    main()
