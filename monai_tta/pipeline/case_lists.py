"""Cases of several files, such as the four sequences of one examination: from a datalist, or files grouped by a pattern."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_tta.pipeline.image_names import name_of, numbered

LISTS = (".json", ".csv")
_KEYS = ("testing", "test", "validation", "training")  # under which MONAI's datalists hold their cases, the first one first
_NAMES = ("case", "name", "id", "subject", "patient")  # of a column, or a key, that says what a case is called


@dataclass(frozen=True)
class ListedCase:
    """A case of one or more files.

    Args:
        name: what it is called; its mask is named after it. No two cases of a run have the same.
        files: in the order of the channels.
        problem: why it cannot be read, in words; empty where nothing is known to be wrong.
    """

    name: str
    files: tuple[Path, ...]
    problem: str = ""


def read_datalist(file: Path, sequences: Sequence[str] = ()) -> list[ListedCase]:
    """The cases of a datalist. Relative paths are relative to the list's folder.

    JSON is a list of cases, or MONAI's ``{"testing": [...]}``. A case is ``{"image": ...}``, or the image alone; an image is a
    path, a list of paths, or paths by sequence. CSV has a row for each case and a column for each sequence; a column called case,
    name, id, subject or patient says what the case is called.

    Args:
        file: ending in .json or .csv.
        sequences: the order of the channels, by the names that the list gives its files; the list's own order if empty.

    Raises:
        ValueError: for a file that is no such list, or names no case.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = _csv_rows(file, text) if file.suffix.lower() == ".csv" else _json_rows(file, json.loads(text))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, csv.Error) as error:
        raise ValueError(f"{file} is no datalist that can be read: {error}") from error
    if not rows:
        raise ValueError(f"{file} lists no case")
    cases = [_case(number, name, image, file.parent, sequences) for number, (name, image) in enumerate(rows)]
    return _with_unique_names(_with_equal_numbers(cases))


def group_files(folders: Iterable[Path], pattern: str, sequences: Sequence[str]) -> tuple[list[ListedCase], int]:
    """Group the files of folders, at any depth, into cases.

    Args:
        folders: where to look.
        pattern: of a file's path, or of its last parts, with "{case}" and "{sequence}" in it: "{case}_{sequence}.nii.gz".
        sequences: the order of the channels.

    Returns:
        the cases, and how many files belong to none.

    Raises:
        ValueError: for a pattern without these, for no or repeated sequences, or when no file fits.
    """
    if "{case}" not in pattern or "{sequence}" not in pattern:
        raise ValueError(f"--group needs {{case}} and {{sequence}}, as in '{{case}}_{{sequence}}.nii.gz'; found {pattern!r}")
    if not sequences:
        raise ValueError("--group needs --sequences, the order of the channels, e.g. --sequences t1,t1ce,t2,flair")
    matcher = _matcher(pattern, sequences)
    depth = pattern.count("/") + 1
    found: dict[tuple[Path, str], dict[str, list[Path]]] = {}
    others = 0
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; with --group, IMAGES are folders of files to group")
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
            parts = path.relative_to(folder).parts
            match = matcher.fullmatch("/".join(parts[-depth:])) if len(parts) >= depth else None
            if match is None:
                others += 1
                continue
            place = folder.joinpath(*parts[:-depth])
            found.setdefault((place, match["case"]), {}).setdefault(match["sequence"], []).append(path)
    if not found:
        raise ValueError(
            f"no file fits --group {pattern!r} with the sequences {', '.join(sequences)}; {others} other files are there"
        )
    return _with_unique_names([_grouped(name, files, sequences) for (_, name), files in found.items()]), others


def parse_sequences(text: str) -> tuple[str, ...]:
    """Names of sequences between commas.

    Raises:
        ValueError: for an empty name, or one that is there twice.
    """
    if not text:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"--sequences takes different names between commas, e.g. t1,t1ce,t2,flair; found {text!r}")
    return names


def channel_order(cases: Sequence[ListedCase], sequences: Sequence[str]) -> str:
    """In which order the files become channels, in words: by name of sequence, else by the files of the first case."""
    first = next((case for case in cases if len(case.files) > 1), None)
    if first is None:
        return ""
    names = sequences or [file.name for file in first.files]
    of = "" if sequences else f" (of {first.name})"
    return f"channels{of}: {', '.join(f'{k} {name}' for k, name in enumerate(names, 1))}"


def _matcher(pattern: str, sequences: Sequence[str]) -> re.Pattern[str]:
    """A regular expression; a placeholder that is there again stands for the same text."""
    one_of = "|".join(re.escape(name) for name in sorted(sequences, key=len, reverse=True))
    made = ""
    for part in re.split(r"(\{case\}|\{sequence\})", pattern):
        if part in ("{case}", "{sequence}"):
            name = part[1:-1]
            inside = r"[^/]+?" if name == "case" else one_of
            made += f"(?P={name})" if f"(?P<{name}>" in made else f"(?P<{name}>{inside})"
        else:
            made += re.escape(part)
    return re.compile(made)


def _grouped(name: str, files: Mapping[str, list[Path]], sequences: Sequence[str]) -> ListedCase:
    missing = [sequence for sequence in sequences if sequence not in files]
    twice = [sequence for sequence in sequences if len(files.get(sequence, ())) > 1]
    problem = f"it lacks {', '.join(missing)}" if missing else f"it has several files for {', '.join(twice)}" if twice else ""
    return ListedCase(name, tuple(files[sequence][0] for sequence in sequences if sequence in files), problem)


def _json_rows(file: Path, content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, dict):
        lists = [key for key, value in content.items() if isinstance(value, list) and value]
        key = next((key for key in _KEYS if key in lists), lists[0] if len(lists) == 1 else None)
        if key is None:
            raise ValueError(
                f"{file} holds no list of cases under {', '.join(_KEYS)}; found {', '.join(map(str, content)) or 'nothing'}"
            )
        content = content[key]
    if not isinstance(content, list):
        raise ValueError(f'{file} must hold a list of cases, each {{"image": ...}}')
    rows = []
    for number, item in enumerate(content):
        image = item.get("image") if isinstance(item, dict) else item
        if not image or not isinstance(image, str | list | dict):
            raise ValueError(f'{file}: case {number} must name its "image": a path, a list of paths, or paths by sequence')
        named = next((item[key] for key in _NAMES if isinstance(item.get(key), str)), "") if isinstance(item, dict) else ""
        rows.append((named, image))
    return rows


def _csv_rows(file: Path, text: str) -> list[tuple[str, Any]]:
    first = text.splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator, restkey="", restval="")
    columns = list(reader.fieldnames or ())
    name_column = next((column for column in columns if column.strip().lower() in _NAMES), None)
    others = [column for column in columns if column != name_column]
    if not others:
        raise ValueError(f"{file} has no column of files; found the columns {', '.join(columns) or 'none'}")
    rows = []
    for row in reader:
        if "" in row:
            raise ValueError(f"{file}: row {reader.line_num} has more cells than there are columns")
        rows.append((row[name_column].strip() if name_column else "", {c.strip(): (row[c] or "").strip() for c in others}))
    return rows


def _case(number: int, name: str, image: Any, folder: Path, sequences: Sequence[str]) -> ListedCase:
    problem = ""
    if isinstance(image, dict):
        wanted = list(sequences) or list(image)
        if missing := [sequence for sequence in wanted if not image.get(sequence)]:
            problem = f"it lacks {', '.join(missing)}"
        image = [image[sequence] for sequence in wanted if image.get(sequence)]
    files = [image] if isinstance(image, str) else image
    if not all(isinstance(file, str) and file for file in files):
        problem = problem or "its files are not all paths"
    paths = tuple(folder / file for file in files if isinstance(file, str) and file)
    if sequences and not problem and len(paths) != len(sequences):
        problem = f"it has {len(paths)} files, and --sequences names {len(sequences)}"
    if not problem and len({os.path.realpath(path) for path in paths}) < len(paths):
        problem = "one file is in it twice"
    return ListedCase(name or (_stem(paths) if paths else f"case{number}"), paths, problem)


def _stem(paths: Sequence[Path]) -> str:
    """What files of one case have in common at the beginning of their names; else the first one's name."""
    stems = [name_of(path) for path in paths]
    common = stems[0]
    for stem in stems[1:]:
        while not stem.startswith(common):
            common = common[:-1]
    return (common.rstrip("_-. ") if len(stems) > 1 else common) or stems[0]


def _with_equal_numbers(cases: list[ListedCase]) -> list[ListedCase]:
    """Note which cases have another number of files than most."""
    usual, _ = Counter(len(case.files) for case in cases if not case.problem).most_common(1)[0] if cases else (0, 0)
    return [
        case
        if case.problem or len(case.files) == usual
        else replace(case, problem=f"it has {len(case.files)} files, the others have {usual}")
        for case in cases
    ]


def _with_unique_names(cases: list[ListedCase]) -> list[ListedCase]:
    """Put the folder's name before names that are there twice, and then a number after those that still are."""
    names = [re.sub(r"[/\\\0]", "_", case.name).strip() or "case" for case in cases]
    counts = Counter(names)
    names = [
        f"{case.files[0].parent.name}_{name}" if counts[name] > 1 and case.files else name
        for name, case in zip(names, cases, strict=True)
    ]
    return [replace(case, name=name) for name, case in zip(numbered(names), cases, strict=True)]
