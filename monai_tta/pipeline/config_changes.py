"""What a user lays over a bundle's configs: further config files, and single entries, as `monai.bundle run` takes them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from monai_tta.pipeline.match_names import did_you_mean

_SHOWN = 100  # characters of a value in a message
# What a command sets itself, and the option or argument that it is set by.
TAKEN = {
    "bundle_root": "the command's BUNDLE",
    "output_dir": "the command's --out",
    "dataset_dir": "the command's images, or its --dataset-dir",
}


@dataclass(frozen=True)
class ConfigChanges:
    """Changes of a bundle's configs. A value: hashable, and it can be pickled.

    Args:
        files: config files that are laid over the bundle's own, in this order: paths, or names in the bundle's ``configs``.
        entries: ids with their values as JSON; they are set after all files are read.
    """

    files: tuple[str, ...] = ()
    entries: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, files: Iterable[Path | str] = (), entries: Mapping[str, Any] | None = None) -> ConfigChanges:
        """Changes by files, and by values of entries.

        Args:
            files: config files.
            entries: values by id, e.g. ``{"network_def#channels": [4, 8]}``.
        """
        texts = tuple((name.replace("::", "#"), json.dumps(value, default=str)) for name, value in (entries or {}).items())
        return cls(tuple(str(file) for file in files), texts)

    def __bool__(self) -> bool:
        return bool(self.files or self.entries)

    def values(self) -> dict[str, Any]:
        """The entries' values, by id."""
        return {name: json.loads(text) for name, text in self.entries}

    def config_files(self, root: Path) -> list[Path]:
        """Where the files are.

        Args:
            root: the bundle's folder.

        Raises:
            FileNotFoundError: for one that is in neither place.
        """
        found = []
        for name in self.files:
            places = (Path(name), root / "configs" / name)
            file = next((place for place in places if place.is_file()), None)
            if file is None:
                raise FileNotFoundError(f"--config {name}: there is no such file, neither {places[0]} nor {places[1]}")
            found.append(file)
        return found

    def settings(self, root: Path) -> dict[str, str]:
        """What a run depends on, without names or paths: a hash of the files' contents and one of the entries.

        Args:
            root: the bundle's folder.
        """
        contents = [file.read_bytes() for file in self.config_files(root)]
        return {"--config": _hash(contents), "--set": _hash([json.dumps(self.entries).encode()] if self.entries else [])}

    def words(self) -> list[str]:
        """The changes as words of a command line. Where a value is a path it is left out: it may name a patient."""
        words = [word for file in self.files for word in ("--config", Path(file).name)]
        for name, value in self.values().items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{name}={'PATH' if '/' in text or chr(92) in text else text}"]
        return words


def parse_entries(texts: Sequence[str]) -> dict[str, Any]:
    """Values by id of texts like "network_def#channels=[4, 8]", as `monai.bundle run` takes them.

    A value is JSON, a Python literal or, in brackets or braces, YAML; anything else is a word. "$..." is an expression, "@..."
    and "%..." refer to another entry, as everywhere in a config.

    Args:
        texts: each ID=VALUE; the id's parts have "#" or "::" between them.

    Raises:
        ValueError: for one without an id or a value, an id that is given twice, or brackets that do not close.
    """
    entries: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().lstrip("-").replace("::", "#")
        if not name or not value:
            raise ValueError(
                f"--set takes KEY=VALUE, found {text!r}; KEY is an entry of the bundle's config, e.g. network_def#norm"
            )
        if name in entries:
            raise ValueError(f"--set {name} is given twice; give it once")
        entries[name] = _value(name, value)
    return entries


def set_entries(config: Any, entries: Mapping[str, Any], where: str, also_known: Any = None) -> None:
    """Set entries of a config that was read, and refuse those that it would not notice.

    Args:
        config: sections by name; changed in place.
        entries: values by id.
        where: what messages call the config.
        also_known: another config, read together with this one elsewhere. What is in it alone is left to it.

    Raises:
        ValueError: for an id that leads nowhere, with the nearest one that does.
    """
    for name, value in entries.items():
        if name.split("#")[0] in TAKEN:
            raise ValueError(f"--set {name}: it is set by {TAKEN[name.split('#')[0]]}")
        problem = _problem(config, name)
        if problem and also_known is not None and not _problem(also_known, name):
            continue
        if problem:
            raise ValueError(f"--set {name}: {where} {problem}")
        *path, last = name.split("#")
        parent = config
        for part in path:
            parent = parent[int(part)] if isinstance(parent, list) else parent[part]
        parent[int(last) if isinstance(parent, list) else last] = value


def _problem(config: Any, name: str) -> str:
    """Why an id leads nowhere in a config; empty where it leads somewhere."""
    node = config
    parts = name.split("#")
    for depth, part in enumerate(parts):
        at = "#".join(parts[:depth])
        is_last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                return f"has {len(node)} entries in {at}, numbered from 0; found {part!r}"
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node and is_last and ("_target_" in node or (depth == 0 and _is_asked_for(part, config))):
                return ""  # an argument of a class, or what an expression asks for
            if part not in node:
                known = [key for key in node if not str(key).startswith("_meta_")]
                inside = f" in {at}" if at else ""
                return f"has no {part!r}{inside}.{did_you_mean(part, known)} It has: {', '.join(known)}"
            node = node[part]
        else:
            advice = (
                f"set {node[1:]}#{part} instead"
                if str(node).startswith("@")
                else "set it whole, or lay a file over it by --config"
            )
            return f"has {node!r} as {at}, which has no entries of its own; {advice}"
    return ""


def _is_asked_for(name: str, config: Any) -> bool:
    """Whether a text somewhere in a config refers to ``name``, which the config itself does not define."""
    if isinstance(config, dict):
        return any(_is_asked_for(name, value) for value in config.values())
    if isinstance(config, list):
        return any(_is_asked_for(name, value) for value in config)
    return isinstance(config, str) and any(f"{mark}{name}" in config for mark in "@%")


def _value(name: str, text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] in "$@%":
        return stripped
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(stripped)
        return list(found) if isinstance(found, tuple) else json.loads(json.dumps(found))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    if stripped[:1] in "[{(":
        try:
            return yaml.safe_load(stripped)
        except (yaml.YAMLError, RecursionError) as error:
            shown = stripped if len(stripped) < _SHOWN else f"{stripped[:_SHOWN]}... ({len(stripped)} characters)"
            raise ValueError(f"--set {name}: brackets in {shown!r} do not close, or hold what is no value") from error
    return text


def _hash(contents: Sequence[bytes]) -> str:
    """A hash of several contents; empty for none."""
    if not contents:
        return ""
    return sha256(b"".join(sha256(content).digest() for content in contents)).hexdigest()[:16]
