"""Read a MONAI bundle, put an `AdaptiveInferer` around its inferer, and segment images with it."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
import tempfile
from ast import literal_eval
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_tta import methods
from monai_tta.inferer import AdaptiveInferer
from monai_tta.method import AdaptationMethod
from monai_tta.reading import head_of
from monai_tta.record import Case


class BundleError(ValueError):
    """A bundle lacks something; the message says what, in which file, and what to do."""


def named_method(name: str, choices: Iterable[str] = ()) -> AdaptationMethod:
    """The exported method of this name in any case.

    Args:
        name: e.g. "grata".
        choices: other than the defaults, each as "name=value": numbers, words, True, False or None.

    Raises:
        ValueError: for an unknown name or choice, listing the known ones.
    """
    known = {m.lower(): m for m in methods.__all__}
    key = name.lower().replace("-", "").replace("_", "")
    if key not in known:
        raise ValueError(f"no method {name!r}; choose one of {', '.join(sorted(known))}")
    kind = getattr(methods, known[key])
    simple = [f.name for f in fields(kind) if isinstance(f.default, str | int | float | None)]
    given = {}
    for choice in choices:
        field, _, value = choice.partition("=")
        if field not in simple or not value:
            raise ValueError(f"{name} has no choice {choice!r}; give NAME=VALUE with a name of {', '.join(simple) or 'none'}")
        try:
            given[field] = literal_eval(value)
        except (ValueError, SyntaxError):
            given[field] = value
    try:
        method: AdaptationMethod = kind(**given)
    except TypeError as error:
        raise ValueError(f"{name} cannot use {', '.join(choices)}: {error}") from error
    return method


@dataclass
class SourceBundle:
    """A bundle's parts, resolved: network with its weights, inferer, and its transforms on demand."""

    parser: ConfigParser
    network: nn.Module
    inferer: Any
    device: torch.device

    def transforms(self, folder: Path) -> tuple[Any, Any]:
        """Pre- and postprocessing, the latter saving into ``folder``. They come as a pair: `Invertd` undoes only what
        the very same preprocessing object did."""
        self.parser["output_dir"] = str(folder)
        self.parser.parse(reset=True)
        return self.parser.get_parsed_content("preprocessing"), self.parser.get_parsed_content("postprocessing")


def load_bundle(root: Path | str, checkpoint: str | None = "model.pt") -> SourceBundle:
    """Resolve ``configs/inference.(yaml|json)`` and load ``models/<checkpoint>`` with ``weights_only=True`` (None: no weights).

    Raises:
        BundleError: for a missing file or section, or weights that do not fit the network.
    """
    root = Path(root)
    parser, config = read_bundle(root)
    sections: dict[str, Any] = cast(dict[str, Any], parser.config)
    for key in ("network", "inferer", "preprocessing", "postprocessing"):
        ids = ("network", "network_def") if key == "network" else (key,)
        if not any(i in sections for i in ids):
            raise BundleError(f"{config} has no {key!r}; adaptation needs it by that name")
    if "checkpoint" in sections and checkpoint is not None:
        parser["checkpoint"] = checkpoint
    parser.parse()
    network = parser.get_parsed_content("network" if "network" in sections else "network_def")
    if checkpoint is not None:
        _load_weights(network, root / "models" / checkpoint)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return SourceBundle(parser, network.eval(), parser.get_parsed_content("inferer"), device)


def read_bundle(root: Path) -> tuple[ConfigParser, Path]:
    """The parser of ``configs/inference.(yaml|yml|json)`` with the bundle's metadata, and that file; nothing is built yet.

    Raises:
        BundleError: when there is no such file.
    """
    config = next((p for s in ("yaml", "yml", "json") if (p := root / "configs" / f"inference.{s}").is_file()), None)
    if config is None:
        raise BundleError(f"{root} is not a MONAI bundle for inference: no configs/inference.yaml or .json")
    if (root / "scripts").is_dir() and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))  # where `monai.bundle run` in the bundle's folder would find them
    parser = ConfigParser()
    parser.read_config(str(config))
    metadata = root / "configs" / "metadata.json"
    if metadata.is_file():
        parser.read_meta(str(metadata))
    parser["bundle_root"] = str(root)
    return parser, config


def _load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict, also one inside {"model": ...} or {"state_dict": ...}."""
    if not path.is_file():
        raise BundleError(f"{path} does not exist: train the bundle or put its weights there")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here; all of them mean: not readable as plain weights
        raise BundleError(f"{path} cannot be read as weights only (damaged, or a pickle of something else)") from error
    for key in ("model", "state_dict"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} does not fit {type(network).__name__}: {error}") from error


@dataclass(frozen=True)
class Outcome:
    """One image done: where its masks are, its record, or what went wrong."""

    image: Path
    masks: tuple[Path, ...] = ()
    case: Case | None = None
    error: str | None = None


def segment(
    bundle: SourceBundle, images: Iterable[Path], out: Path, method: AdaptationMethod, **choices: Any
) -> Iterator[Outcome]:
    """Segment images one by one; a bad one is reported and the rest go on.

    Masks are written beside, then moved into ``out``, so that no half-written mask is ever there. ``choices`` are
    keyword arguments of `AdaptiveInferer`; ``head="auto"`` is read from the bundle's postprocessing where it says.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as partial:
        before, after = bundle.transforms(Path(partial))
        if choices.get("head", "auto") == "auto":
            choices["head"] = head_of(after)
        inferer = AdaptiveInferer(method=method, inferer=bundle.inferer, **choices)
        written: set[Path] = set()
        for image, loading, following in _ahead(before, list(images)):
            try:
                data = loading.result()
                with torch.no_grad():
                    data["pred"] = inferer(data["image"][None].to(bundle.device), bundle.network)[0]
                wait(following)  # undoing a transform while another thread applies it would mix up what is to be undone
                after(data)
                outcome = Outcome(image, _move(Path(partial), out, written), inferer.cases[-1])
            except Exception as error:  # whatever is wrong with one image must not end the cohort
                outcome = Outcome(image, error=_in_short(error))
            for rest in Path(partial).iterdir():  # of a failed image, lest the next one's name is given to it
                shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
            yield outcome


def _ahead(before: Any, images: list[Path]) -> Iterator[tuple[Path, Future[Any], list[Future[Any]]]]:
    """Each image, its loading, and the next one's loading, which goes on while this one is answered."""

    def load(image: Path) -> Any:
        if not image.exists():
            raise FileNotFoundError(f"{image} does not exist")
        return before({"image": str(image)})

    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(load, image) for image in images[:1]]
        for image, after in zip(images, [*images[1:], None], strict=True):
            wait(following)
            loading, following = following[0], [] if after is None else [pool.submit(load, after)]
            yield image, loading, following


def _move(partial: Path, out: Path, written: set[Path]) -> tuple[Path, ...]:
    """Move what was written to its final place, folder by folder; not over what another image of this run has there."""
    files = sorted(p for p in partial.rglob("*") if p.is_file())
    targets = [out / file.relative_to(partial) for file in files]
    for target in targets:
        if target in written:
            raise FileExistsError(f"{target.name} is another image's of this run; give images of one name folders of their own")
    for file, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    written.update(targets)
    return tuple(targets)


def _in_short(error: BaseException) -> str:
    """The innermost message, on one line: MONAI wraps a reader's error in the names of its transforms."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "suitable reader" in str(error):  # MONAI's words advise to install readers, which are installed
        return "no reader of this bundle can read it: damaged, or not an image of a kind it knows"
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def write_records(cases: Iterable[Case | None], path: Path) -> None:
    """Write records as a JSON list, ``null`` where an image failed, aside first and then in one move."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(json.dumps([case and json.loads(case.to_json()) for case in cases], indent=1) + "\n")
    shutil.move(aside, path)


if __name__ == "__main__":
    # `python -m monai_tta.bundle overlay ...` is the command line by another name.
    runpy.run_module("monai_tta", run_name="__main__")
