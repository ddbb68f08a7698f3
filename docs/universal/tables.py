"""Tables of what `python -m docs.universal.pairs OUT ...` measured: `python -m docs.universal.tables OUT`, in seconds."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docs.universal.choices import BEST, OWN
from monai_tta.reporting.significance import HARM

Pairs = dict[tuple[str, str], dict[str, Any]]  # of one choice: its row for each network and target
RESAMPLES = 2000
DRAWN = "drawn"


def by_choice(rows: Sequence[dict[str, Any]]) -> dict[str, Pairs]:
    """The rows of each choice, by network and target."""
    found: dict[str, Pairs] = {}
    for row in rows:
        found.setdefault(str(row["choice"]), {})[row["network"], row["target"]] = row
    return found


def summary_row(choice: str, pairs: Pairs, own: Pairs, best: Pairs) -> str:
    """One line about all pairs of a kind that a choice has: in points, intervals over pairs."""
    keys = list(pairs)
    means = np.array([np.mean(pairs[key]["gains"]) for key in keys])
    gains = np.concatenate([pairs[key]["gains"] for key in keys])
    offered = np.array([np.mean(best[key]["gains"]) for key in keys])
    difference = means - np.array([np.mean(own[key]["gains"]) for key in keys])
    harmed = [np.mean(np.array(pairs[key]["gains"]) < -100 * HARM) for key in keys]
    return (
        f"| {choice} | {len(keys)} | {means.mean():+.1f} | {interval(difference) if choice != OWN else ''} "
        f"| {means.sum() / max(offered.sum(), 1e-9):.0%} | {means.min():+.1f} | {np.mean(gains < -100 * HARM):.1%} "
        f"| {max(harmed):.0%} | {np.mean(gains < -5):.1%} | {gains.min():+.1f} |"
    )


def interval(values: NDArray[np.float64]) -> str:
    """The mean and its 95 % bootstrap interval, pairs drawn with replacement."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{values.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def is_real(key: tuple[str, str]) -> bool:
    """Whether a pair's patients are real: neither its network nor its target is drawn."""
    return not any(word.startswith(DRAWN) for word in key)


def print_summaries(choices: dict[str, Pairs]) -> None:
    """A table for each kind of pairs."""
    kinds = {
        "shifted, BatchNorm": lambda key, row: row["is shifted"] and "instance" not in key[0],
        "shifted, InstanceNorm": lambda key, row: row["is shifted"] and "instance" in key[0],
        "shifted, real patients": lambda key, row: row["is shifted"] and is_real(key),
        "shifted, all": lambda key, row: row["is shifted"],
        "unshifted, all": lambda key, row: not row["is shifted"],
    }
    head = "| choice | pairs | mean | against own | of the best | worst pair | harmed | of one pair | lost over 5 | worst case |"
    for word, belongs in kinds.items():
        say(f"\n**{word}**\n\n{head}\n|{'---|' * 10}")
        for choice, pairs in choices.items():
            chosen = {key: row for key, row in pairs.items() if belongs(key, row)}
            if chosen:
                say(summary_row(choice, chosen, choices[OWN], choices[BEST]))


def print_pairs(choices: dict[str, Pairs]) -> None:
    """A line for each pair, with a cell for each choice: mean change, cases harmed, worst case."""
    names = list(choices)
    say(f"\n| network | images (cases) | Dice of the source | {' | '.join(names)} |\n|{'---|' * (3 + len(names))}")
    for key, row in choices[OWN].items():
        cells = [cell(choices[name].get(key)) for name in names]
        say(f"| {key[0]} | {key[1]} ({len(row['gains'])}) | {np.mean(row['source']):.3f} | {' | '.join(cells)} |")


def cell(row: dict[str, Any] | None) -> str:
    """What a choice did at one pair, in short."""
    if row is None:
        return ""
    gains = np.array(row["gains"])
    return f"{gains.mean():+.1f}, {np.mean(gains < -100 * HARM):.0%}, {gains.min():+.1f}"


def say(line: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """See the top of this file."""
    choices = by_choice(json.loads((Path(sys.argv[1]) / "pairs.json").read_text(encoding="utf-8")))
    print_summaries(choices)
    print_pairs(choices)


if __name__ == "__main__":
    main()
