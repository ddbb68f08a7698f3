"""A bundle's config files: where they are, and what they hold once they are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from monai.bundle import ConfigParser

from monai_tta.pipeline.describe_error import describe_error

ENDINGS = ("yaml", "yml", "json")


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
        raise BundleError(f"{root} is not a MONAI bundle for inference: no configs/inference.yaml or .json")
    raise BundleError(f"{root / 'configs' / name}.yaml does not exist, nor .json; it lists the labelled cases")


def read_parser(root: Path, *names: str) -> ConfigParser:
    """Read configs of a bundle, each laid over the one before, and its metadata; nothing is built yet.

    Args:
        root: the bundle's folder.
        names: "inference", and maybe "evaluate".

    Raises:
        BundleError: for a file that does not exist or cannot be read.
    """
    files = [config_file(root, name) for name in names]
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
    parser["bundle_root"] = str(root)
    return parser


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
