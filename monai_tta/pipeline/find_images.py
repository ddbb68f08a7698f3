"""Which files and folders are images: what a person means by "these scans"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monai_tta.pipeline.dicom_marks import NO_IMAGES, DicomMark, read_mark

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm")
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", *PICTURES)
# Images of kinds that are not looked for: some bundle may read them where they are given by name.
OTHER_ENDINGS = (
    *(".dcm.gz", ".hdr", ".img", ".img.gz", ".nhdr", ".mgz", ".mgh", ".mnc", ".gipl", ".vtk", ".par"),
    *(".gif", ".webp", ".jp2", ".heic", ".jfif", ".pgm", ".pnm", ".apng", ".svs", ".ndpi", ".mrxs", ".czi", ".lif", ".nd2"),
    *(".npy", ".npz", ".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"),
)
_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_OUTPUT = ("records.json", ".monai_tta_run*.jsonl")  # what a folder of masks holds


@dataclass
class FoundImages:
    """What was found in files and folders.

    Args:
        images: the images, in their order.
        roots: for each image, the folder that was given and holds it; for an image that was given itself, the folder it lies in.
        skipped: what may be an image and is none of them, with the reason.
        names: of the images, see `image_names`; empty where nobody asked for them.
    """

    images: list[Path] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, image: Path, root: Path) -> None:
        """Add an image."""
        self.images.append(image)
        self.roots.append(root)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Find the images among files and folders, see `search_images`.

    Args:
        paths: files and folders.

    Raises:
        ValueError: for a folder without any image.
    """
    return search_images(paths).images


def search_images(paths: Iterable[Path], out: Path | None = None) -> FoundImages:
    """Find the images among files and folders.

    A file is one image. Of a folder, all image files (by their ending) and all folders of DICOM series in it are images, however
    deep they lie, in the order of their names. A folder of several series gives an image for each, see `split_series`, and so
    does one Enhanced file, which is a volume, beside other images. Links are followed, unless they lead back. A link in a folder
    that leads nowhere counts as an image: it then fails, and nobody overlooks it. So does a folder that cannot be read. An image
    that is given twice counts once.

    Args:
        paths: files and folders.
        out: the folder for masks, in which nothing is looked for.

    Raises:
        ValueError: for a folder without any image.
    """
    found = FoundImages()
    for path in paths:
        named = path if path.name not in ("", "..") else path.resolve()  # masks are named after their images
        search = _Search(named, FoundImages(), out, set())
        if named.is_dir():
            search.visit(named, ())
            if not search.found.images:
                raise ValueError(f"{path} holds no image: none of {', '.join(ENDINGS)}, no DICOM series, {_why(search.found)}")
        else:
            search.found.add(named, named.parent)
        _join(found, search.found)
    return found


def _join(all_found: FoundImages, found: FoundImages) -> None:
    """Add what was found in one more path, without what is there already."""
    known = {_place(image) for image in all_found.images}
    for image, root in zip(found.images, found.roots, strict=True):
        if _place(image) in known:
            all_found.skipped.append((image, "given twice"))
        else:
            all_found.add(image, root)
            known.add(_place(image))
    all_found.skipped += found.skipped


def _place(image: Path) -> Path:
    """Where an image lies, the same for all ways of writing it. Two links to one file are two images."""
    return Path(os.path.realpath(image.parent)) / image.name


def _why(found: FoundImages) -> str:
    """What else a folder without images holds."""
    if not found.skipped:
        return "at any depth"
    first, reason = found.skipped[0]
    more = f" and {len(found.skipped) - 1} more" if len(found.skipped) > 1 else ""
    return f"at any depth (skipped {first.name}: {reason}{more})"


def _may_be_slice(file: Path) -> bool:
    """Whether a file's name allows that it is a slice. A DICOMDIR is a table of contents."""
    name = file.name
    return file.is_file() and not name.lower().endswith(ENDINGS) and name.upper() != "DICOMDIR" and not name.startswith(".")


@dataclass
class _Search:
    """A search below one folder that was given."""

    root: Path
    found: FoundImages
    out: Path | None
    visited: set[Path]

    def visit(self, folder: Path, above: tuple[Path, ...]) -> None:
        """Look into a folder. ``above`` are the real places of the folders on the way to it."""
        real = Path(os.path.realpath(folder))
        if reason := self._reason_not_to_enter(folder, real, above):
            self.skip(folder, reason)
            return
        self.visited.add(real)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            self.found.add(folder, self.root)  # it fails when its turn comes, and says why
            return
        if folder != self.root and any(path.is_file() for name in _OUTPUT for path in folder.glob(name)):
            self.skip(folder, "holds the masks of a run")
            return
        slices = self.slices_in(entries)
        others = [path for path in entries if path not in slices]
        inside = FoundImages()
        outer, self.found = self.found, inside
        for path in others:
            self.look_at(path, has_series=len(slices) > 1, way=(*above, real))
        self.found = outer
        if len(slices) > 1 or (slices and not inside.images):
            self.add_series(folder, slices)
        elif only_file := next((file for file, mark in slices.items() if mark.is_enhanced), None):
            self.found.add(only_file, self.root)
        elif slices:
            self.skip(next(iter(slices)), "one DICOM file beside other images, which is no series; give it by name")
        self.found.images += inside.images
        self.found.roots += inside.roots
        self.found.skipped += inside.skipped

    def add_series(self, folder: Path, slices: dict[Path, DicomMark]) -> None:
        """Add a folder of slices, or each of its series and Enhanced files where there are several."""
        series = {mark.series for mark in slices.values()}
        split = None
        if len(series) > 1 or "" in series or any(mark.is_enhanced for mark in slices.values()):  # else no header need be read
            from monai_tta.pipeline.several_series import split_series

            split = split_series(folder, self.root, list(slices))
        for image in split.folders if split else (folder,):
            self.found.add(image, split.root if split else self.root)
        self.found.skipped += split.skipped if split else ()

    def slices_in(self, entries: list[Path]) -> dict[Path, DicomMark]:
        """The DICOM files of a folder that are images."""
        slices = {}
        for path in filter(_may_be_slice, entries):
            try:
                mark = read_mark(path)
            except OSError:
                self.skip(path, "cannot be read")
                continue
            if mark is not None and mark.modality in NO_IMAGES:
                self.skip(path, f"DICOM of the kind {mark.modality}, which is no image")
            elif mark is not None:
                slices[path] = mark
            elif path.name.lower().endswith(_DICOM_ENDINGS):
                self.skip(path, "named as DICOM, and holds none")
        return slices

    def look_at(self, path: Path, *, has_series: bool, way: tuple[Path, ...]) -> None:
        """Sort one entry of a folder that is no slice."""
        name = path.name.lower()
        is_lost = path.is_symlink() and not path.exists()
        if path.name.startswith("."):
            if name.endswith(ENDINGS) or path.is_dir():
                self.skip(path, "hidden")
        elif path.is_dir():
            self.visit(path, way)
        elif has_series and name.endswith(PICTURES):
            self.skip(path, "a picture in the folder of a DICOM series; give it by name")
        elif name.endswith(ENDINGS) and (path.is_file() or is_lost):
            self.found.add(path, self.root)
        elif is_lost:
            self.skip(path, "a link that leads nowhere")
        elif name.endswith((*ENDINGS, *OTHER_ENDINGS, *_DICOM_ENDINGS)) and (reason := _reason_not_to_look(path)):
            self.skip(path, reason)

    def skip(self, path: Path, reason: str) -> None:
        """Note what is not looked at."""
        self.found.skipped.append((path, reason))

    def _reason_not_to_enter(self, folder: Path, real: Path, above: tuple[Path, ...]) -> str:
        if self.out is not None and folder != self.root and real == Path(os.path.realpath(self.out)):
            return "the folder for this run's masks"
        if real in above or any(real in place.parents for place in above[:1]):
            return "a link back to a folder above it"
        return "a link to a folder that is searched anyway" if real in self.visited else ""


def _reason_not_to_look(path: Path) -> str:
    if not path.is_file():
        return "a device or a pipe"
    return "" if path.name.lower().endswith(_DICOM_ENDINGS) else "of a kind that is not looked for; give it by name"


def lines_on_skipped(found: FoundImages, most: int = 5) -> Iterator[str]:
    """A line for each reason, with how many were skipped for it and the first of their names."""
    reasons: dict[str, list[str]] = {}
    for path, reason in found.skipped:
        reasons.setdefault(reason, []).append(path.name)
    for reason, names in reasons.items():
        shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
        yield f"skipped {len(names)} ({reason}): {shown}"
