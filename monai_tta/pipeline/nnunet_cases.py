"""Images for an nnU-Net: files with its names become cases of several channels, each one small file as other lists make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.find_images import FoundImages
from monai_tta.pipeline.image_names import image_names
from monai_tta.pipeline.nnunet_files import Cases


def list_cases(cases: Cases, found: FoundImages, out: Path) -> list[ListedCase]:
    """The cases among images that were found, each with the files of all its channels, or with why it cannot be one.

    Args:
        cases: of the network.
        found: the images, and the folders that they were found in.
        out: the folder for masks; see `monai_tta.pipeline.image_names.image_names`.
    """
    roots = dict(zip(found.images, found.roots, strict=True))
    firsts = cases.first_files(found.images)
    lying_in = [roots[first] if first in roots else _root_of_case(cases, first, roots) for first in firsts]
    names = image_names([_without_channel(cases, first) for first in firsts], lying_in, out)
    listed = []
    for first, name in zip(firsts, names, strict=True):
        try:
            listed.append(ListedCase(name, tuple(cases.files(first))))
        except ValueError as error:
            listed.append(ListedCase(name, (first,), str(error)))
    return listed


def with_problems(cases: Cases, listed: Sequence[ListedCase]) -> list[ListedCase]:
    """Cases that somebody listed or grouped, with why they are none of this network where they are not.

    Args:
        cases: of the network.
        listed: as they were listed.
    """
    return [case if case.problem else replace(case, problem=cases.problem_of(case.files)) for case in listed]


def check_sequences(cases: Cases, sequences: Sequence[str]) -> None:
    """Refuse another order of the channels than the network's own.

    Args:
        cases: of the network.
        sequences: the channels' names in the user's order; other names than the network's are taken as they are.

    Raises:
        ValueError: when these are the network's channels in another order.
    """
    given, own = ([name.casefold() for name in names] for names in (sequences, cases.channels))
    if given != own and sorted(given) == sorted(own):
        raise ValueError(f"--sequences gives {', '.join(sequences)}; this network's channels are {', '.join(cases.channels)}")


@contextmanager
def case_files(cases: Cases, images: Sequence[Path]) -> Iterator[list[Path]]:
    """Files and folders as one small file for each case, which lasts as long as this does. For use from Python.

    Args:
        cases: of the network, ``source.plan.cases``.
        images: files, and folders of these at any depth.

    Yields:
        what `monai_tta.pipeline.segment.segment` takes as images.
    """
    from monai_tta.pipeline.case_file import write_case_file
    from monai_tta.pipeline.find_images import search_images

    with TemporaryDirectory(prefix="monai_tta-") as folder:
        listed = list_cases(cases, search_images(images), Path(folder))
        yield [write_case_file(case, Path(folder)) for case in listed]


def _without_channel(cases: Cases, file: Path) -> Path:
    """A file's path as if its name had no channel's number."""
    return file.with_name(cases.name(file) + cases.ending) if file.name.endswith(cases.ending) else file


def _root_of_case(cases: Cases, first: Path, roots: dict[Path, Path]) -> Path:
    """The folder in which another channel of the case was found."""
    same = (root for file, root in roots.items() if file.parent == first.parent and cases.name(file) == cases.name(first))
    return next(same, first.parent)
