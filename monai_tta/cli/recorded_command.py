"""The command on a run's record, asked for again: with paths in the place of what the record leaves out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import typer

from monai_tta.cli.run import asked_to_run
from monai_tta.cli.run_facts import RunRequest

_BEGINS = ["monai-tta", "run"]
_FILES = ("--reference", "--prompts", "--quality")  # options whose value is a file, of which the record keeps the last name


@dataclass(frozen=True)
class LeftOut:
    """What the record of a run leaves out of its command.

    Args:
        bundle: as a user names it.
        images: files and folders.
        out: the folder for masks.
        files: which the command names by their last names alone.
        entries: ID=VALUE of --set whose values the record leaves out.
        device: where to compute instead of where the record says; None for that place.
    """

    bundle: Path
    images: Sequence[Path]
    out: Path
    files: Sequence[Path] = ()
    entries: Sequence[str] = ()
    device: str | None = None


def recorded_request(command: str, left_out: LeftOut) -> RunRequest:
    """What a command on record asks for.

    Args:
        command: as `monai_tta.cli.run_facts.command_on_record` wrote it.
        left_out: what it leaves out.

    Raises:
        ValueError: for a command of another form, or one that names a file or an entry that is not in ``left_out``.
        typer.Exit: with code 2, after a line on options that exclude each other.
    """
    words = shlex.split(command)
    if words[:2] != _BEGINS or words[3:6] != ["IMAGES", "--out", "OUT"]:
        raise ValueError(f"the record's command is none that can be replayed: {command}")
    options = list(_with_paths(words[6:], left_out))
    if left_out.device is not None:
        options += ["--device", left_out.device]
    app = typer.Typer(add_completion=False)
    app.command()(asked_to_run)
    given = [str(left_out.bundle), *map(str, left_out.images)]
    request = typer.main.get_command(app).main([*options, "--out", str(left_out.out), "--", *given], standalone_mode=False)
    if not isinstance(request, RunRequest):
        raise typer.Exit(2)
    return request


def _with_paths(words: Sequence[str], left_out: LeftOut) -> Iterator[str]:
    """The options of the command, with paths for names. Records are not written, so that they may hold names."""
    files = {file.name: str(file) for file in left_out.files}
    entries = {entry.partition("=")[0]: entry for entry in left_out.entries}
    was_given = {word.partition("=")[0] for option, word in pairwise(words) if option == "--set"}
    if unknown := set(entries) - was_given:
        raise ValueError(f"the run was not given --set {sorted(unknown)[0]}")
    option = ""
    for word in words:
        if word != "--anonymous":
            yield _with_path(option, word, files, entries)
        option = word


def _with_path(option: str, word: str, files: Mapping[str, str], entries: Mapping[str, str]) -> str:
    if option in _FILES and word not in files:
        raise ValueError(
            f"the run was given {option} {word}, of which the record keeps the name alone; say where it is by --file"
        )
    if option in (*_FILES, "--config"):
        return files.get(word, word)
    if option == "--choose":
        name, equals, value = word.partition("=")
        return name + equals + files.get(value, value)
    if option == "--set":
        name, _, value = word.partition("=")
        if value == "PATH" and name not in entries:
            raise ValueError(f"the run was given --set {name}, and its value, a path, is not on record; give --set {name}=VALUE")
        return entries.get(name, word)
    return word
