"""The results of a calibration's trials, kept on disk: it goes on where it was stopped, and another harm rate is quick.

A file for each trial holds figures, also of single structures, and for each voxel that matters the probabilities of all answers
and its label. Voxels are sorted by these values (`CalibrationSet.add`), so that no shape can be seen in them. No file holds an
image or a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_tta._version import __version__
from monai_tta.compute.number_files import load_numbers, save_numbers
from monai_tta.pipeline.content_hashes import content_hash
from monai_tta.pipeline.nnunet_files import is_nnunet_folder
from monai_tta.pipeline.source_files import description_files, weights_files
from monai_tta.preparation.examples import CalibrationCase
from monai_tta.preparation.source_figures import SourceFigures
from monai_tta.preparation.source_views import AGREEMENT

if TYPE_CHECKING:
    from monai_tta.preparation.calibration_settings import CalibrationSettings

FORMAT = 4
_ARRAYS = (
    "source_features",
    "features",
    "gains",
    "_probabilities",
    "_label",
    "_label_sizes",
    "structure_features",
    "structure_dice",
    "structure_nsd",
    "temperature_scores",
)
_SOURCE = "source.npz"
_NAME = re.compile(r"trial_(\d{5})\.npz")


class KeptTrials:
    """The trials of one calibration: of one network, set of images, and way to try; of any size and harm rate.

    Args:
        folder: where they are kept; None keeps nothing.
        identity: what tells this calibration from others, see `identity_of`. Each has a folder of its own inside ``folder``.
    """

    def __init__(self, folder: Path | None, identity: str = "") -> None:
        self.folder = None if folder is None else folder / identity

    def numbers(self) -> set[int]:
        """The numbers of the trials that are there."""
        files = self.folder.iterdir() if self.folder is not None and self.folder.is_dir() else ()
        return {int(match[1]) for file in files if (match := _NAME.fullmatch(file.name))}

    def read(self, number: int) -> tuple[bool, CalibrationCase | None]:
        """Whether a trial is there, and its case; None for one that could not be used.

        A file that cannot be read counts as one that is not there: the trial is made again.
        """
        if self.folder is None:
            return False, None
        try:
            said, arrays = load_numbers(self._file(number), FORMAT)
            if not said["used"]:
                return True, None
            plain = {name: said[name] for name in ("group", "unadapted_dice", "_head")}
            return True, CalibrationCase(**plain, **{name: arrays[name] for name in _ARRAYS})
        except Exception:  # numpy, zip and JSON raise many kinds
            return False, None

    def write(self, number: int, case: CalibrationCase | None) -> None:
        """Keep a trial, in one move.

        Args:
            number: of the trial, from 0.
            case: what came of it; None where it could not be used.

        Raises:
            OSError: when it cannot be written.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        plain: dict[str, Any] = {"format": FORMAT, "used": case is not None}
        arrays = {}
        if case is not None:
            plain |= {"group": case.group, "unadapted_dice": case.unadapted_dice, "_head": case._head}
            arrays = {name: np.asarray(getattr(case, name)) for name in _ARRAYS}
        save_numbers(self._file(number), plain, arrays)

    def read_source(self) -> SourceFigures | None:
        """The figures of the images that the trials are of; None where they are not there, or cannot be read."""
        if self.folder is not None:
            with suppress(Exception):  # numpy, zip and JSON raise many kinds
                said, _ = load_numbers(self.folder / _SOURCE, FORMAT)
                return SourceFigures.from_dict(said["source"])
        return None

    def write_source(self, figures: SourceFigures) -> None:
        """Keep the figures of the images; raises as `write`."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_numbers(self.folder / _SOURCE, {"format": FORMAT, "source": figures.to_dict()}, {})

    def of_undistorted(self) -> KeptTrials:
        """Those of the same images as they are."""
        return self if self.folder is None else KeptTrials(self.folder.parent, f"{self.folder.name}-undistorted")

    def read_first(self, size: int) -> list[CalibrationCase] | None:
        """The cases of the first trials, in order; None where one of these trials is not there, or cannot be read.

        Args:
            size: how many trials.
        """
        if len(self.numbers()) < size:
            return None
        found = [self.read(number) for number in range(size)]
        return [case for _, case in found if case is not None] if all(is_there for is_there, _ in found) else None

    def forget(self) -> None:
        """Remove the trials of this calibration."""
        for number in self.numbers():
            self._file(number).unlink(missing_ok=True)
        if self.folder is not None:
            (self.folder / _SOURCE).unlink(missing_ok=True)
        with suppress(OSError):
            if self.folder is not None:
                self.folder.rmdir()

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"trial_{number:05d}.npz"


def trials_folder(predictor: Path) -> Path:
    """Where trials are kept unless told otherwise: beside the gain predictor's file.

    >>> trials_folder(Path("models/gain_predictor.npz")).name
    'gain_predictor.trials'
    """
    return predictor.with_name(f"{predictor.stem}.trials")


def identity_of(
    root: Path,
    checkpoint: str,
    items: Iterable[Mapping[str, Any]],
    dataset_dir: Path | None,
    keys: Any,
    settings: CalibrationSettings,
) -> str:
    """What the trials of a bundle depend on, as one word: a hash over the contents of its files and of all images and labels.

    Every file is read once for it, about a second for each gigabyte.

    Args:
        root: the folder of the bundle, whose configs and scripts count; or of the nnU-Net, whose descriptions count.
        checkpoint: as for `monai_tta.pipeline.source_files.weights_files`.
        items: the labelled cases, as the bundle's evaluate config lists them, and what tells unlabelled ones from others.
        dataset_dir: the folder of the labelled data; where it lies does not count. None where there are none.
        keys: entries of the evaluate config that were set.
        settings: budget, seed and method count; size and harm do not.
    """
    is_nnunet = is_nnunet_folder(root)
    own = sorted(file for part in ("configs", "scripts") for file in (root / part).rglob("*") if file.suffix in _TEXTS)
    described = description_files(root) if is_nnunet else own
    packages = ("monai", "torch", "numpy", *(["nnunetv2"] if is_nnunet else []))
    parts = {
        "versions": [__version__, *(version(name) for name in packages)],
        "bundle": [(file.relative_to(root).as_posix(), content_hash(file)) for file in described],
        "weights": "".join(content_hash(file) for file in weights_files(root, checkpoint)),
        "method": f"{settings.tried!r}, quick" if settings.quick else repr(settings.tried),
        "method files": [content_hash(file) for file in settings.tried.files],
        "agreement": AGREEMENT,
        "budget": settings.budget,
        "seed": settings.seed,
        "keys": keys or {},
        "cases": [{key: _content(value) for key, value in item.items()} for item in items],
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    text = text if dataset_dir is None else text.replace(str(dataset_dir), "DATA")
    return sha256(text.encode()).hexdigest()[:16]


_TEXTS = (".yaml", ".yml", ".json", ".py")


def _content(value: Any) -> Any:
    """A value of a case, and what is in the files that it names."""
    if isinstance(value, list | tuple):
        return [_content(one) for one in value]
    if not isinstance(value, str | Path):
        return value
    path = Path(value)
    with suppress(OSError, ValueError):
        if path.is_file():
            return [str(value), content_hash(path)]
        if path.is_dir():
            return [str(value), [(file.name, content_hash(file)) for file in sorted(path.rglob("*")) if file.is_file()]]
    return str(value)
