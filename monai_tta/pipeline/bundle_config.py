"""A bundle's config files: where they are, and what they hold once they are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from monai.bundle import ConfigParser

from monai_tta.pipeline.config_changes import ConfigChanges, set_entries
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.nnunet_files import nnunet_advice

ENDINGS = ("yaml", "yml", "json")
NO_CHANGES = ConfigChanges()


class BundleError(ValueError):
    """A bundle cannot be used; the message says what is wrong, in which file, and what to do."""


@contextmanager
def as_bundle_error(what: str, where: Path | str) -> Iterator[None]:
    """Turn any error, while a config is read or its parts are made, into one line that names the file.

    Args:
        what: what is being made of it.
        where: the config file.

    Raises:
        BundleError: for any error.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # a config can run any code, which can raise anything, and end the process with 0
        raise BundleError(f"{where}: {what} cannot be made of it: {describe_error(error)}") from error


def config_file(root: Path, name: str) -> Path:
    """The config file of a bundle that has this name, whatever its format.

    Args:
        root: the bundle's folder.
        name: "inference", "evaluate".

    Raises:
        BundleError: when there is none.
    """
    for ending in ENDINGS:
        if (file := root / "configs" / f"{name}.{ending}").is_file():
            return file
    if name == "inference":
        advice = nnunet_advice(root)
        raise BundleError(
            f"{root} is not a MONAI bundle for inference: no configs/inference.yaml or .json{advice and '; '}{advice}"
        )
    raise BundleError(f"{root / 'configs' / name}.yaml does not exist, nor .json; it lists the labelled cases")


def read_parser(root: Path, *names: str, changes: ConfigChanges = NO_CHANGES, read_elsewhere: Sequence[str] = ()) -> ConfigParser:
    """Read configs of a bundle, each laid over the one before, and its metadata; nothing is built yet.

    Args:
        root: the bundle's folder.
        names: "inference", and maybe "evaluate".
        changes: what is laid over them.
        read_elsewhere: names of further configs that the same command reads; changes of what is in these alone are left to them.

    Raises:
        BundleError: for a file that does not exist or cannot be read, or a change of an entry that no config has.
    """
    extra = changes.config_files(root)
    files = [*(config_file(root, name) for name in names), *extra]
    if (root / "scripts").is_dir() and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))  # `monai.bundle run` in the bundle's folder finds them so
    for file in files:
        read_sections(file)
    parser = ConfigParser()
    with as_bundle_error("a bundle", files[-1]):
        parser.read_config([str(file) for file in files])
    metadata = root / "configs" / "metadata.json"
    if metadata.is_file():
        with as_bundle_error("a bundle's description", metadata):
            parser.read_meta(str(metadata))
    also_known = None
    if read_elsewhere and changes.entries:
        also_known = ConfigParser.load_config_files([config_file(root, name) for name in (*names, *read_elsewhere)] + extra)
    try:
        set_entries(parser.config, changes.values(), f"{root.name}'s config", also_known)
    except ValueError as error:
        raise BundleError(str(error)) from error
    parser["bundle_root"] = str(root)
    return parser


def inference_digest(root: Path, changes: ConfigChanges) -> str:
    """A hash of the inference config with the changes; empty where they change nothing of it.

    Args:
        root: the bundle's folder.
        changes: what is laid over it.
    """
    if not changes:
        return ""
    evaluate = ("evaluate",) if any((root / "configs" / f"evaluate.{ending}").is_file() for ending in ENDINGS) else ()
    plain, changed = (read_parser(root, "inference", changes=c, read_elsewhere=evaluate).config for c in (NO_CHANGES, changes))
    return "" if plain == changed else sha256(json.dumps(changed, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_sections(file: Path) -> dict[str, Any]:
    """What a config file holds, by section.

    Args:
        file: YAML or JSON.

    Raises:
        BundleError: for a file that cannot be read, or holds anything else.
    """
    with as_bundle_error("a bundle", file):
        found = ConfigParser.load_config_file(str(file))
    if not isinstance(found, dict):
        raise BundleError(f"{file} must hold sections; found {type(found).__name__}")
    return cast(dict[str, Any], found)
