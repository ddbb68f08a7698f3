"""nnU-Net model folders and cases by their files' names; imports neither torch nor nnunetv2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKPOINT = "checkpoint_final.pth"
_PICTURE_READER = "NaturalImage2DIO"  # of nnU-Net: it reads colours as channels
LEAST = (2, 8)  # the first version of nnunetv2 that this was tried with
_HOW = "pip install 'monai-tta[nnunet]'"
NO_CONFIG = "a model folder of nnU-Net has no config that --set and --config could change; plans.json says what it is"


class ModelFolderError(ValueError):
    """A folder is no nnU-Net model folder that can be used here; the message says why and what to do."""


def is_nnunet_folder(folder: Path) -> bool:
    """Whether a folder is one that nnU-Net v2 trained: ``plans.json`` and ``dataset.json``, and no MONAI bundle's config."""
    is_bundle = any((folder / "configs" / f"inference.{ending}").is_file() for ending in ("yaml", "yml", "json"))
    return not is_bundle and all((folder / name).is_file() for name in ("plans.json", "dataset.json"))


def nnunet_advice(folder: Path) -> str:
    """What to give instead of a folder that belongs to nnU-Net and is no model folder; empty for any other folder."""
    if not folder.is_dir():
        return ""
    if is_nnunet_folder(folder.absolute().parent) and folder.absolute().name.startswith("fold_"):
        alone = f"--checkpoint {folder.absolute().name}/{CHECKPOINT}"
        return f"it is a fold of an nnU-Net model folder; give {folder.absolute().parent} (and {alone} for this fold alone)"
    if inside := sorted(path.name for path in folder.iterdir() if path.is_dir() and is_nnunet_folder(path)):
        return f"it holds nnU-Net model folders; give one of them: {', '.join(inside)}"
    if any((folder / name).is_file() for name in ("plans.pkl", "postprocessing.json")) or list(folder.glob("fold_*/*.model")):
        return "it looks like a model of nnU-Net v1, which nnU-Net v2 does not read either; only v2 is supported"
    if (folder / "dataset.json").is_file() or list(folder.glob("fold_*")):
        return (
            "if it is of nnU-Net, give the folder of the trained model, TRAINER__PLANS__CONFIGURATION in nnUNet_results, "
            f"with dataset.json, plans.json and fold_*/{CHECKPOINT}"
        )
    return ""


def check_nnunetv2() -> None:
    """Check that the package nnunetv2 is there, without importing it.

    Raises:
        ImportError: where it is not, or is too old.
    """
    least = ".".join(map(str, LEAST))
    try:
        found = version("nnunetv2")
    except PackageNotFoundError:
        raise ImportError(f"an nnU-Net model folder needs the package nnunetv2, {least} or later: {_HOW}") from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < LEAST:
        raise ImportError(f"nnunetv2 {found} is too old, {least} is the first version that works here: {_HOW}")


def checkpoint_files(folder: Path, checkpoint: str | None) -> list[Path]:
    """The checkpoints of a model folder that are used together, one of each fold, in nnU-Net's order.

    Args:
        folder: the model folder.
        checkpoint: the name of a file in each fold, or ``fold_1/NAME`` for that fold alone; None or "" for `CHECKPOINT`.
            ``fold_all`` is used where it is named, or where there is no other.

    Raises:
        ModelFolderError: where there is none.
    """
    name = checkpoint or CHECKPOINT
    if "/" in name:
        file = folder / name
        if not file.is_file() or not re.fullmatch(r"fold_(\d+|all)/[^/]+", name):
            raise ModelFolderError(f"{folder} has no {name}; {_there(folder)}")
        return [file]
    folds = sorted(path for path in folder.glob("fold_*") if re.fullmatch(r"fold_\d+", path.name))
    for some in (folds, [folder / "fold_all"]):
        if files := [fold / name for fold in some if (fold / name).is_file()]:
            return files
    raise ModelFolderError(f"{folder} has no fold_*/{name}: not trained to its end, or not copied whole; {_there(folder)}")


def folds_without(folder: Path, files: Sequence[Path]) -> list[str]:
    """The folds, besides ``fold_all``, that have none of these checkpoints."""
    used = {file.parent.name for file in files}
    return sorted(path.name for path in folder.glob("fold_*") if path.name not in used and path.name != "fold_all")


def _there(folder: Path) -> str:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob("fold_*/*.pth"))
    return f"it has {', '.join(found)}" if found else "it has no checkpoint at all"


class Cases:
    """Which files are a case: ``NAME_0000.nii.gz`` for channel 0, ``NAME_0001.nii.gz`` for channel 1.

    Args:
        ending: of image files, as dataset.json says, e.g. ".nii.gz".
        channels: what each channel is, e.g. ("T1", "FLAIR").
        colours: whether one file may hold all channels, as a photograph does.
    """

    def __init__(self, ending: str, channels: Sequence[str], colours: bool = False) -> None:
        self.ending = ending
        self.channels = tuple(channels)
        self.colours = colours

    @classmethod
    def of_folder(cls, folder: Path) -> Cases:
        """As a model folder's ``dataset.json`` and ``plans.json`` say.

        Raises:
            ModelFolderError: where they do not say it.
        """
        try:
            dataset, plans = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("dataset.json", "plans.json"))
            names = dataset.get("channel_names") or dataset["modality"]
            channels = [str(names[key]) for key in sorted(names, key=int)]
            return cls(str(dataset["file_ending"]), channels, plans.get("image_reader_writer") == _PICTURE_READER)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"{type(error).__name__}: {str(error)[:100]}"
            raise ModelFolderError(f"{folder}: dataset.json and plans.json do not say what an image is ({what})") from error

    def first_files(self, files: Iterable[Path]) -> list[Path]:
        """One file for each case among ``files``, in their order: that of channel 0, where it is on the disk.

        A file that can be no part of a case stays, so that it fails on its own and nobody overlooks it.
        """
        found: dict[Path, Path] = {}
        for file in files:
            name, channel = self._parts(file)
            if channel is None or channel >= len(self.channels):
                found.setdefault(file, file)
                continue
            first = self._file(file.parent, name, 0)
            found.setdefault(file.parent / name, first if first.exists() or first.is_symlink() else file)
        return list(found.values())

    def files(self, first: Path) -> list[Path]:
        """All files of the case that ``first`` belongs to, one for each channel.

        A network of one channel also takes a file without a channel's number.

        Raises:
            ValueError: for a file with another ending, or a channel that is missing or unknown.
        """
        if problem := self._misfit([first]):
            raise ValueError(problem)
        name, channel = self._parts(first)
        if channel is None:
            if len(self.channels) == 1 or self.colours:
                return [first]
            raise ValueError(f"{first.name} has no channel's number in its name; this network takes {self._names(name)}")
        if channel >= len(self.channels):
            raise ValueError(
                f"{first.name} is channel {channel}, by nnU-Net's names; this network takes {self._names(name)}. "
                f"If its number is no channel's, call it {name}_{channel:04d}_0000{self.ending}"
            )
        files = [self._file(first.parent, name, number) for number in range(len(self.channels))]
        if self.colours and channel == 0 and not any(file.exists() for file in files[1:]):
            return [first]
        if missing := [file.name for file in files if not file.is_file()]:
            raise ValueError(f"it has no {', '.join(missing)}; this network takes {self._names(name)}")
        if (further := self._file(first.parent, name, len(files))).exists():
            raise ValueError(f"it also has {further.name}, a channel too many; this network takes {self._names(name)}")
        return files

    def problem_of(self, files: Sequence[Path]) -> str:
        """Why files that somebody put together are no case of this network, in words; "" where they may be one."""
        wanted = {1, len(self.channels)} if self.colours else {len(self.channels)}
        if len(files) not in wanted:
            return f"it has {len(files)} files; this network takes {len(self.channels)}: {', '.join(self.channels)}"
        return self._misfit(files)

    def name(self, file: Path) -> str:
        """The name of a file's case, without channel and ending."""
        return self._parts(file)[0]

    def _misfit(self, files: Sequence[Path]) -> str:
        """Which of these nnU-Net does not read."""
        for file in files:
            if file.is_dir():
                return f"{file.name} is a folder; nnU-Net reads files: convert a DICOM series to {self.ending} first"
            if not file.name.endswith(self.ending):
                return f"{file.name} does not end in {self.ending}, as this network's images do (dataset.json); convert it"
        return ""

    def _parts(self, file: Path) -> tuple[str, int | None]:
        """A case's name, and the number of a channel; None where the file's name has none."""
        stem = file.name.removesuffix(self.ending)
        found = re.fullmatch(r"(.+)_(\d{4})", stem) if file.name.endswith(self.ending) else None
        return (found[1], int(found[2])) if found else (stem, None)

    def _file(self, folder: Path, name: str, channel: int) -> Path:
        return folder / f"{name}_{channel:04d}{self.ending}"

    def _names(self, name: str) -> str:
        """The files that a case must have, in words."""
        return ", ".join(f"{name}_{number:04d}{self.ending} ({what})" for number, what in enumerate(self.channels))
