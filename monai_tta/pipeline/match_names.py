"""Find the name that a user means: case, hyphens and underscores do not matter, and a near miss is suggested."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def match_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` means.

    Args:
        kind: what the name is of, for the message: "method", "guard".
        name: as the user wrote it, e.g. "view-average" for "ViewAverage".
        known: the names there are.

    Raises:
        ValueError: for a name that is not known; the message suggests the nearest one and lists all.
    """
    by_letters = {letters(other): other for other in known}
    if letters(name) in by_letters:
        return by_letters[letters(name)]
    names = by_letters.values()
    raise ValueError(f"no {kind} {name!r}.{did_you_mean(name, names)} Choose one of: {', '.join(names)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence for the message about an unknown name, with a blank before it; empty where no known name is near."""
    by_letters = {letters(other): other for other in known}
    near = get_close_matches(letters(name), by_letters, n=1, cutoff=0.6)
    return f" Did you mean {by_letters[near[0]]!r}?" if near else ""


def letters(name: str) -> str:
    """A name without case, hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")
