"""Arguments and options that several commands share, and the end of each command's help."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from monai_tta.pipeline.config_changes import ConfigChanges, parse_entries
from monai_tta.pipeline.match_names import letters
from monai_tta.pipeline.method_by_name import method_summaries
from monai_tta.pipeline.shipped_bundles import shipped_bundles

SEGMENT = "Segment"
PREPARE = "Prepare at the source"
PREPARE_TARGET = "Prepare at the target"
EVALUATE = "Evaluate"
INSPECT = "Inspect"

EXIT_CODES = {
    0: "all is done",
    2: "what was asked for cannot be done",
    3: "a case failed; the others are done",
    4: "an image looks unlike the source's",
    130: "stopped by Ctrl-C",
}


def help_end(*examples: str, codes: tuple[int, ...] = (0, 2), meanings: Mapping[int, str] = EXIT_CODES) -> str:
    """Examples and exit codes, as the end of a command's help."""
    heading = "Example:" if len(examples) == 1 else "Examples:"
    ends = "; ".join(f"{code}: {meanings[code]}" for code in codes)
    return "\n\n".join([heading, *(f"  {line}" for line in examples), f"Exit codes: {ends}."])


def _complete(names: list[str], start: str) -> list[str]:
    return [name for name in names if letters(name).startswith(letters(start))]


def complete_method(incomplete: str) -> list[str]:
    """Names of methods that begin so, for the shell."""
    return _complete([name.lower() for name in method_summaries()], incomplete)


def complete_bundle(incomplete: str) -> list[str]:
    """Names of shipped bundles, folders and files that begin so, for the shell."""
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    inside = sorted(str(path) for path in folder.iterdir()) if folder.is_dir() else []
    return _complete(shipped_bundles(), incomplete) + [path for path in inside if incomplete and path.startswith(incomplete)]


Bundle = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="a MONAI bundle's folder, or the name of a bundle that comes with monai-tta, e.g. hippocampus_mri; `run`, `replay`, "
        "`check`, `compare`, `reference` and `profile` also take a model folder of nnU-Net v2",
        autocompletion=complete_bundle,
    ),
]
EvaluationBundle = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="a bundle's folder with configs/evaluate.yaml and configs/compare.yaml, or a shipped bundle's name; `compare` also "
        "takes a model folder of nnU-Net v2, with a folder of nnUNet_raw as DATA",
        autocompletion=complete_bundle,
    ),
]
DatasetDir = Annotated[Path, typer.Option(help="the folder of labelled data, called DATA in the bundle's configs/compare.yaml")]
Limit = Annotated[int, typer.Option(min=0, help="cases of each domain at most, the first of its list; 0 for all")]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="a file in the bundle's models folder; the one that its config names, else model.pt, if not given"),
]
Checkpoints = Annotated[
    list[str], typer.Option(help="as of `monai-tta run`: a file in the bundle's models folder; may be given several times")
]
ConfigEntries = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="ID=VALUE",
        help="an entry of the bundle's config, e.g. network_def#channels=[8,16]; may be given several times",
    ),
]
ConfigFiles = Annotated[
    list[str],
    typer.Option(
        "--config", metavar="FILE", help="a config file to lay over the bundle's own: a path, or a name in its configs folder"
    ),
]
Choices = Annotated[
    list[str],
    typer.Option(
        help="NAME=VALUE of the method, e.g. statistics=volume, optimizer.lr=1e-3, select=Biases; may be given several times"
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(help="on how many windows of a volume to adapt, 0 for all; the method's own number if not given", min=0),
]
Seed = Annotated[int, typer.Option(help="the seed of all random draws")]
PrecisionOption = Annotated[str, typer.Option(help="exact or fast: the arithmetic of answers and gradients")]
Device = Annotated[
    str | None,
    typer.Option(help="where the network computes: cpu, cuda, cuda:1, mps; where the bundle puts it if not given"),
]
RunFiles = Annotated[
    list[Path],
    typer.Option("--file", metavar="FILE", help="a file that the run was given, e.g. --reference; may be given several times"),
]
RunEntries = Annotated[
    list[str],
    typer.Option("--set", metavar="ID=VALUE", help="an entry of --set whose value, a path, the record leaves out"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document instead of a table")]


def parse_budget(given: int | None) -> Literal["auto"] | int | None:
    """The budget as `AdaptiveInferer` takes it: "auto" where none was given, None for all windows."""
    return "auto" if given is None else given or None


def parse_changes(files: list[str], entries: list[str]) -> ConfigChanges:
    """What --config and --set lay over a bundle's config.

    Raises:
        ValueError: for an entry that is not ID=VALUE.
    """
    return ConfigChanges.of(files, parse_entries(entries))


def check_dataset_dir(folder: Path, holds: str = "labelled data") -> None:
    """Refuse a folder of data that is not there, before torch is imported.

    Raises:
        NotADirectoryError: when it is no folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; --dataset-dir is the folder of the {holds}")


def check_new_file(file: Path, option: str = "--out") -> None:
    """Refuse a place where no file can be written, before any work. Nothing is made.

    Raises:
        IsADirectoryError: when it is a folder.
        NotADirectoryError: when a file is in the place of its folder, or of one above.
        PermissionError: when its folder cannot be written to.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; {option} is the file to write")
    above = next((folder for folder in file.absolute().parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise NotADirectoryError(f"{above} is a file, so {file} cannot be written; give another {option}")
    if above is not None and not os.access(above, os.W_OK):
        raise PermissionError(f"{above} cannot be written to; give another {option}")


def check_new_folder(folder: Path) -> None:
    """Refuse a place where no folder can be, before any work. Nothing is made.

    Raises:
        NotADirectoryError: when a file is in its place, or in that of a folder above.
    """
    above = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), None)
    if above is not None and not above.is_dir():
        raise NotADirectoryError(f"{above} is a file; --out is a folder")
