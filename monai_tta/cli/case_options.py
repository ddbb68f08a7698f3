"""Options for cases of several files and for prompts: they become one file per case, which a run treats as an image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.console import report_errors, say
from monai_tta.pipeline.case_lists import LISTS, ListedCase, channel_order, group_files, parse_sequences, read_datalist
from monai_tta.pipeline.find_images import FoundImages, lines_on_skipped, search_images
from monai_tta.pipeline.image_names import image_names, name_of, numbered
from monai_tta.pipeline.nnunet_cases import check_sequences, list_cases, with_problems
from monai_tta.pipeline.nnunet_files import Cases, is_nnunet_folder

Group = Annotated[
    str,
    typer.Option(metavar="PATTERN", help="which files are one case, e.g. '{case}_{sequence}.nii.gz'; needs --sequences"),
]
Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGES", help="files, folders of DICOM series, folders with either at any depth, or datalists (.json, .csv)"
    ),
]
Sequences = Annotated[
    str, typer.Option(help="the order of a case's files, which are the channels of its image, e.g. t1,t1ce,t2,flair")
]
Prompts = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON: what a promptable network is asked for, of all cases or by case")
]


@dataclass(frozen=True)
class CaseOptions:
    """What was given of `Group`, `Sequences` and `Prompts`."""

    group: str = ""
    sequences: str = ""
    prompts: Path | None = None


@contextmanager
def as_images(
    images: Sequence[Path], options: CaseOptions = CaseOptions(), bundle: Path | None = None, out: Path = Path()
) -> Iterator[list[Path]]:
    """Images as they were given, with a file for each case of several files, or with prompts, for as long as this lasts.

    Args:
        images: files, folders, and datalists (.json, .csv).
        options: how files are grouped, and what is asked for.
        bundle: whose images they are; those of an nnU-Net are grouped by their names.
        out: the folder for masks.

    Raises:
        typer.Exit: with code 2, after a line that says what is wrong.
    """
    lists = [path for path in images if path.suffix.lower() in LISTS and path.is_file()]
    is_nnunet = bundle is not None and is_nnunet_folder(bundle)
    if not is_nnunet and not lists and not options.group and not options.sequences and options.prompts is None:
        yield list(images)
        return
    with tempfile.TemporaryDirectory(prefix="monai_tta-") as folder:
        with report_errors():
            nnunet = Cases.of_folder(bundle) if is_nnunet and bundle is not None else None
            made = _as_images(images, lists, options, Path(folder), nnunet, out)
        yield made


@contextmanager
def searched_images(
    images: Sequence[Path], options: CaseOptions = CaseOptions(), bundle: Path | None = None, out: Path = Path()
) -> Iterator[FoundImages]:
    """Images with their names, a file for each case of several files; what is skipped is said.

    Args:
        images: files, folders, and datalists (.json, .csv).
        options: how files are grouped.
        bundle: whose images they are; those of an nnU-Net are grouped by their names.
        out: the folder in which something is written.

    Raises:
        typer.Exit: with code 2, after a line that says what is wrong.
    """
    with as_images(images, options, bundle, out) as made:
        if bundle is not None and is_nnunet_folder(bundle):
            yield FoundImages(made, [file.parent for file in made], names=[name_of(file) for file in made])
            return
        found = search_images(made)
        found.names = image_names(found.images, found.roots, out)
        say_skipped(found)
        yield found


def say_skipped(found: FoundImages) -> None:
    """Say which files are no images, and why.

    Args:
        found: what was found.
    """
    for line in lines_on_skipped(found):
        say(line)


def _as_images(
    images: Sequence[Path], lists: Sequence[Path], options: CaseOptions, folder: Path, nnunet: Cases | None, out: Path
) -> list[Path]:
    sequences = parse_sequences(options.sequences)
    others = [path for path in images if path not in lists]
    if sequences and not lists and not options.group:
        raise ValueError("--sequences is for a datalist (.json, .csv) or --group; give one of them")
    if lists and options.group:
        raise ValueError(f"--group is for folders, and {lists[0]} is a datalist; give one or the other")
    cases = [case for path in lists for case in read_datalist(path, sequences)]
    if options.group:
        cases, skipped = group_files(others, options.group, sequences)
        say(f"{len(cases)} cases; {skipped} other files fit no case" if skipped else f"{len(cases)} cases")
        others = []
    if order := channel_order(cases, sequences):
        say(order)
    if nnunet is not None:
        return _nnunet_files(others, cases, sequences, folder, nnunet, out)
    if options.prompts is None:
        return [*others, *_files(cases, folder)]
    return _with_prompts(others, cases, options.prompts, folder)


def _with_prompts(others: Sequence[Path], cases: Sequence[ListedCase], file: Path, folder: Path) -> list[Path]:
    from monai_tta.pipeline.case_file import write_case_file
    from monai_tta.pipeline.find_images import find_images
    from monai_tta.pipeline.prompts import ALL, prompts_of, read_prompts

    by_case = read_prompts(file)
    listed = [ListedCase(name_of(image), (image,)) for image in find_images(others)] if others else []
    made, used = [], set()
    for case in _renamed([*listed, *cases]):
        names = [case.name, *(name for path in case.files for name in (path.name, name_of(path)))]
        used |= set(names)
        prompts = prompts_of(by_case, *names)
        problem = case.problem or ("" if prompts is not None else f"{file.name} has no prompts for it")
        made.append(write_case_file(ListedCase(case.name, case.files, problem), folder, prompts or {}))
    if unknown := sorted(set(by_case) - used - {ALL}):
        raise ValueError(f"{file} has prompts for {unknown[0]!r}, and no case is called so")
    return made


def _nnunet_files(
    others: Sequence[Path], cases: Sequence[ListedCase], sequences: Sequence[str], folder: Path, nnunet: Cases, out: Path
) -> list[Path]:
    """A file for each case of an nnU-Net, those that were listed or grouped after those that its names tell."""
    from monai_tta.pipeline.case_file import write_case_file

    check_sequences(nnunet, sequences)
    found = search_images(others, out)
    say_skipped(found)
    listed = [*list_cases(nnunet, found, out), *with_problems(nnunet, cases)]
    return [write_case_file(case, folder) for case in _renamed(listed)]


def _files(cases: Sequence[ListedCase], folder: Path) -> list[Path]:
    from monai_tta.pipeline.case_file import write_case_file

    return [write_case_file(case, folder) if len(case.files) != 1 or case.problem else case.files[0] for case in _renamed(cases)]


def _renamed(cases: Sequence[ListedCase]) -> list[ListedCase]:
    """Cases of several lists, with a number after names that are there twice."""
    return [replace(case, name=name) for name, case in zip(numbered([case.name for case in cases]), cases, strict=True)]
