"""The raw rows of a comparison and the SQLite file that holds them. No paths, no patients' names, no pixels."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from math import isnan, nan
from pathlib import Path
from typing import Any

METRICS = ("dice", "nsd", "hd95", "assd")

_TABLES = """
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cases (
    id INTEGER PRIMARY KEY, checkpoint TEXT NOT NULL, domain TEXT NOT NULL, contender TEXT NOT NULL, budget INTEGER NOT NULL,
    seed INTEGER NOT NULL, number INTEGER NOT NULL, shift TEXT, severity INTEGER, case_group TEXT, seconds REAL, memory REAL,
    answer TEXT, reason TEXT, forwards INTEGER, backwards INTEGER, UNIQUE (checkpoint, domain, contender, budget, seed, number));
CREATE TABLE IF NOT EXISTS scores (
    row INTEGER NOT NULL, label INTEGER NOT NULL, dice REAL, nsd REAL, hd95 REAL, assd REAL, reason TEXT,
    PRIMARY KEY (row, label)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signals (row INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (row, name))
    WITHOUT ROWID;
"""


class RowsError(ValueError):
    """A file of rows cannot be read or continued. The message says what was found and what to do."""


@dataclass(frozen=True)
class Score:
    """The scores of one label of one case. Dice and NSD are in [0, 1], HD95 and ASSD in the bundle's unit of length.

    A score is NaN where it is not defined, and ``reason`` says why: "absent" (neither in the truth nor found), "invented"
    (found, but not in the truth) or "missed" (in the truth, but not found). It is None where all could be computed.

    Args:
        dice: in [0, 1], or NaN.
        nsd: normalised surface Dice, in [0, 1], or NaN.
        hd95: the 95th percentile of surface distances, 0 or more, or NaN.
        assd: the mean surface distance, 0 or more, or NaN.
        reason: why a score is NaN; None where all could be computed.
    """

    dice: float
    nsd: float = nan
    hd95: float = nan
    assd: float = nan
    reason: str | None = None


@dataclass(frozen=True)
class Key:
    """What identifies a row.

    ``budget`` is the number of adaptation windows, 0 for all. ``number`` is the case's place in its domain, from 0.
    """

    checkpoint: str
    domain: str
    contender: str
    budget: int
    seed: int
    number: int


@dataclass(frozen=True)
class Row:
    """The answer of one contender to one case.

    ``shift`` is the class of the simulated scanner and ``severity`` its strength; both are None without one. ``seconds`` and
    ``memory`` are of the answer alone; memory is in MiB above what the process held before, None where the system doesn't say.
    ``answer`` is a digest of the logits: equal where the logits are equal bit for bit. ``reason`` says why the image has the
    unadapted answer; it is None for an adapted one. ``forwards`` counts the windows that the network and its copies answered, and
    ``backwards`` those through which a gradient went back; both are None where nobody counted.

    Args:
        key: what identifies the row.
        scores: one for each label.
        shift: the class of the simulated scanner; None without one.
        severity: its strength; None without one.
        group: the case's group, such as its centre; None for none.
        seconds: the answer took.
        memory: of the answer, in MiB.
        answer: a digest of the logits.
        reason: why the answer is the unadapted one; None for an adapted one.
        signals: figures that were measured without the label, by name; see `monai-tta trust`.
        forwards: windows that were answered; None where nobody counted.
        backwards: windows through which a gradient went back; None where nobody counted.
    """

    key: Key
    scores: tuple[Score, ...]
    shift: str | None = None
    severity: int | None = None
    group: str | None = None
    seconds: float = nan
    memory: float | None = None
    answer: str | None = None
    reason: str | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    forwards: int | None = None
    backwards: int | None = None


_OF_A_ROW = ("shift", "severity", "group", "seconds", "memory", "answer", "reason", "forwards", "backwards")
_COLUMNS = ", ".join([*(f.name for f in fields(Key)), *("case_group" if name == "group" else name for name in _OF_A_ROW)])


def has_rows(path: Path) -> bool:
    """Whether there is a file of rows that holds one.

    Args:
        path: the SQLite file.
    """
    if not path.is_file():
        return False
    file = RowFile(path)
    try:
        return bool(file.done())
    finally:
        file.close()


class RowFile:
    """A file of rows. A process may be killed at any moment: the rows of one call of `add` are all in the file, or none is.

    Args:
        path: an SQLite file; made where there is none.

    Raises:
        RowsError: for a file that holds no rows of a comparison.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = sqlite3.connect(path, timeout=60)
            with self._file:
                self._file.executescript(_TABLES)
                for column in {"forwards", "backwards"} - self._columns():  # of a file that an earlier version made
                    self._file.execute(f"ALTER TABLE cases ADD COLUMN {column} INTEGER")
        except sqlite3.DatabaseError as error:
            raise RowsError(f"{path} is not a file of a comparison's rows ({error}); choose another folder") from error

    def _columns(self) -> set[str]:
        return {str(name) for _, name, *_ in self._file.execute("PRAGMA table_info(cases)")}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def settings(self) -> dict[str, Any]:
        """What `settle` wrote, by name."""
        return {name: json.loads(value) for name, value in self._file.execute("SELECT name, value FROM run ORDER BY rowid")}

    def settle(self, settings: dict[str, Any]) -> None:
        """Write what all rows of the file have in common. Add what is new, and refuse what differs from an earlier call.

        A setting that is a mapping may get new entries, for example one more checkpoint. Its old entries must stay the same.

        Raises:
            RowsError: naming the first setting that differs.
        """
        before = self.settings()
        merged = before | settings
        for name, value in settings.items():
            old = before.get(name, value)
            if isinstance(value, dict):
                for entry in old.keys() & value.keys():
                    self._same(f"{name} {entry!r}", old[entry], value[entry])
                merged[name] = old | value
            else:
                self._same(name, old, value)
        with self._file:
            texts = [(name, json.dumps(value)) for name, value in merged.items()]
            self._file.executemany("INSERT OR REPLACE INTO run VALUES (?, ?)", texts)

    def _same(self, name: str, old: Any, new: Any) -> None:
        if json.loads(json.dumps(new)) != json.loads(json.dumps(old)):
            values = "" if len(f"{old}{new}") > 200 else f": {old!r} there, {new!r} now"
            raise RowsError(f"{self.path} was started with another {name}{values}; use the old one, or choose another --out")

    def done(self) -> set[Key]:
        """The keys of all rows in the file."""
        columns = ", ".join(f.name for f in fields(Key))
        return {Key(*found) for found in self._file.execute(f"SELECT {columns} FROM cases")}

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none. A row with the same key is replaced."""
        with self._file:
            for row in rows:
                key = astuple(row.key)
                same = " AND ".join(f"{f.name} = ?" for f in fields(Key))
                for table in ("scores", "signals"):
                    self._file.execute(f"DELETE FROM {table} WHERE row = (SELECT id FROM cases WHERE {same})", key)
                values = (*key, *(getattr(row, name) for name in _OF_A_ROW))
                marks = ", ".join("?" * len(values))
                at = self._file.execute(f"INSERT OR REPLACE INTO cases ({_COLUMNS}) VALUES ({marks})", values).lastrowid
                found = [(at, label, *map(_null, astuple(score))) for label, score in enumerate(row.scores, 1)]
                self._file.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)", found)
                self._file.executemany("INSERT INTO signals VALUES (?, ?, ?)", [(at, *one) for one in row.signals.items()])

    def rows(self) -> list[Row]:
        """All rows, sorted by checkpoint, domain, budget, contender, seed and case, in the order of the settings."""
        scores: dict[int, list[Score]] = {}
        for at, *values, reason in self._file.execute(
            "SELECT row, dice, nsd, hd95, assd, reason FROM scores ORDER BY row, label"
        ):
            dice, nsd, hd95, assd = (nan if v is None else float(v) for v in values)
            scores.setdefault(at, []).append(Score(dice, nsd, hd95, assd, reason))
        signals: dict[int, dict[str, float]] = {}
        for at, name, value in self._file.execute("SELECT row, name, value FROM signals"):
            signals.setdefault(at, {})[name] = value
        found = []
        for at, *values in self._file.execute(f"SELECT id, {_COLUMNS} FROM cases"):
            key = Key(*values[: len(fields(Key))])
            rest = dict(zip(_OF_A_ROW, values[len(fields(Key)) :], strict=True))
            found.append(Row(key, tuple(scores.get(at, ())), signals=signals.get(at, {}), **rest))
        known = self.settings()
        ranks = [{n: i for i, n in enumerate(known.get(kind, {}))} for kind in ("checkpoints", "domains", "contenders")]
        return sorted(found, key=lambda row: _place(row.key, ranks))


def _null(value: Any) -> Any:
    """SQLite has no NaN."""
    return None if isinstance(value, float) and isnan(value) else value


def _place(key: Key, ranks: Sequence[dict[str, int]]) -> tuple[Any, ...]:
    checkpoint, domain, contender = (
        (rank.get(name, len(rank)), name) for rank, name in zip(ranks, (key.checkpoint, key.domain, key.contender), strict=True)
    )
    return checkpoint, domain, key.budget == 0, key.budget, contender, key.seed, key.number
