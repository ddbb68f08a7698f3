"""Run attacks and print the counts by family: `python -m tests.attack [--count N] [--seed S] [--only WORDS]`."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import itk

from tests.attack import (
    arena,
    bundles,
    calls,
    cases,
    folders,
    handed,
    inputs,
    names,
    nnunet,
    outputs,
    promises,
    records,
    sequels,
    series,
    stops,
    volumes,
)

FAMILIES = {
    "volumes": volumes.FAMILY,
    "names and links": names.FAMILY,
    "DICOM series": series.FAMILY,
    "photographs": series.PHOTOGRAPHIC,
    "wrong inputs": inputs.FAMILY,
    "checkpoints": bundles.CHECKPOINTS,
    "configs and choices": bundles.CONFIGS,
    "overrides, cases of several files, prompts": cases.FAMILY,
    "nnU-Net folders": nnunet.FAMILY,
    "output folders": folders.FAMILY,
    "stops": stops.FAMILY,
    "between and beside runs": sequels.FAMILY,
    "records": records.FAMILY,
    "inferer: tensors": calls.TENSORS,
    "inferer: networks": calls.NETWORKS,
    "inferer: networks handed on": handed.FAMILY,
    "inferer: outputs and norm layers": outputs.FAMILY,
}


def plan(count, seed):
    """Which attacks: all kinds of all families once, then again with further seeds. A smaller count takes kinds at even steps."""
    kinds = [(family, name) for family, attacks in FAMILIES.items() for name in attacks]
    if count < len(kinds):
        return [(*kinds[i * len(kinds) // count], seed) for i in range(count)]
    return [(*kinds[i % len(kinds)], seed + i // len(kinds)) for i in range(count)]


def attack(family, name, seed, folder):
    """The promises that one attack broke, and what the process printed."""
    made = FAMILIES[family][name](seed, folder)
    if made.play is not None:
        return made.play(), ""
    before = promises.fingerprints(folder)
    result = arena.run(made, folder / "said")
    return promises.broken(made, result, folder, before), result.said


def table(counts):
    """Counts by family in Markdown."""
    lines = ["| family | kinds | attacks | promises kept |", "|---|---|---|---|"]
    for family, (kinds, tried, kept) in counts.items():
        lines.append(f"| {family} | {len(kinds)} | {tried} | {kept} |")
    total = [sum(column) for column in zip(*((len(k), t, g) for k, t, g in counts.values()), strict=True)]
    return "\n".join([*lines, "| all | {} | {} | {} |".format(*total)])


def main():
    """End with 1 when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=sum(map(len, FAMILIES.values())), help="all kinds once if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of FAMILY: NAME")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    itk.GDCMSeriesFileNames.New()  # loads ITK's readers once, before the forks
    counts, began, bad = {}, time.monotonic(), 0
    for family, name, seed in plan(chosen.count, chosen.seed):
        if chosen.only not in f"{family}: {name}":
            continue
        folder = Path(tempfile.mkdtemp(prefix="attack-"))
        try:
            broken, said = attack(family, name, seed, folder)
        except Exception:
            broken, said = ["the attack itself failed"], traceback.format_exc()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        kinds, tried, kept = counts.get(family, (set(), 0, 0))
        counts[family] = (kinds | {name}, tried + 1, kept + (not broken))
        bad += bool(broken)
        if broken or chosen.verbose:
            print(
                f"{'BROKEN' if broken else 'kept'}: {family}: {name} (seed {seed}): {'; '.join(broken)}\n{said[-1500:]}",
                flush=True,
            )
    print(table(counts))
    midway = [n for n in stops.STRUCK if n is not None]
    print(f"\n{len(stops.STRUCK)} runs were stopped and resumed: {len(midway)} midway, after {sorted(midway)} of 5 masks")
    print(f"{bad} broke a promise; {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
