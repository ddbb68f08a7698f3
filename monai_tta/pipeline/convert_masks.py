"""Turn the masks that a bundle wrote for one image into the file format that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tta.core.record import Case
from monai_tta.pipeline.beside_masks import BesideMasks
from monai_tta.pipeline.case_file import files_of
from monai_tta.pipeline.dicom_marks import is_dicom
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.image_names import name_of
from monai_tta.pipeline.mask_formats import DICOM_SEG, ENDINGS_OF_FORMATS
from monai_tta.pipeline.mask_labels import LabelNames, amounts_in
from monai_tta.pipeline.mask_volumes import read_volume, write_volume

if TYPE_CHECKING:
    from monai_tta.pipeline.dicom_seg import SegSource


@dataclass(frozen=True)
class MaskConverter:
    """Writes masks in one format.

    Args:
        wanted: the format's name, one of `ENDINGS_OF_FORMATS`.
        names: what the bundle calls its labels.
        source: what a DICOM Segmentation says of the bundle; None for other formats.
    """

    wanted: str
    names: LabelNames
    source: SegSource | None = None

    @classmethod
    def of_bundle(cls, wanted: str, root: Path, metadata: Any) -> MaskConverter:
        """What writes the masks of a bundle.

        Args:
            wanted: the format's name.
            root: the bundle's folder.
            metadata: what its ``metadata.json`` holds.

        Raises:
            ValueError: for codes of labels that cannot be used.
        """
        names = LabelNames.of_metadata(metadata)
        if wanted != DICOM_SEG:
            return cls(wanted, names)
        from monai_tta.pipeline.dicom_seg import SegSource

        return cls(wanted, names, SegSource.of_metadata(root.resolve().name, metadata))

    def convert(self, folder: Path, image: Path, case: Case, beside: BesideMasks) -> BesideMasks:
        """Replace the masks in a folder, and the map of uncertainty where it can be written in this format, too.

        Args:
            folder: with the files of one image and nothing else.
            image: see `load_image`.
            case: the image's record.
            beside: where in the folder the files are that are no masks.

        Returns:
            where in the folder they are then.

        Raises:
            ValueError: for a mask that this format cannot hold.
        """
        others = {folder / file for file in beside.files().values()}
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        masks = [path for path in files if path not in others]
        if self.source is not None:
            self._write_segs(masks, image, case)
            return beside
        found = beside.uncertainty_map
        for path in [*masks, *([] if found is None else [folder / found])]:
            self._write_volume(path)
        return beside if found is None else replace(beside, uncertainty_map=self._target(folder / found).relative_to(folder))

    def _write_volume(self, path: Path) -> None:
        if self._target(path) != path:
            write_volume(read_volume(path), self._free_target(path))
            path.unlink()

    def _write_segs(self, masks: Sequence[Path], image: Path, case: Case) -> None:
        """One DICOM Segmentation for each mask."""
        from monai_tta.pipeline.dicom_seg import write_seg

        assert self.source is not None
        series = files_of(image)[0]
        labels = amounts_in(masks, series, self.names, case.head)
        what = f"adapted by {case.method}" if case.adapted else "unadapted answer"
        for mask in masks:
            own = [label for label in labels if label.file in (None, mask.name)]
            write_seg(self._free_target(mask), read_volume(mask), own, series, self.source, what)
            mask.unlink()

    def _free_target(self, path: Path) -> Path:
        """Where a mask is written, and nothing lies yet.

        Raises:
            FileExistsError: where another mask does: the bundle wrote two whose names differ by their endings alone.
        """
        target = self._target(path)
        if target.exists():
            raise FileExistsError(f"two masks of this bundle would both be {target.name}; leave out --format")
        return target

    def _target(self, path: Path) -> Path:
        return path.with_name(f"{name_of(path)}{ENDINGS_OF_FORMATS[self.wanted]}")


def check_image_for_format(image: Path, wanted: str | None) -> None:
    """Check that an image's mask can be written in a format, before the network answers.

    Args:
        image: a file, the folder of a series, or a case that `write_case_file` wrote.
        wanted: a format's name; None for what the bundle writes.

    Raises:
        ValueError: for a photograph, and for "dicom-seg" where the image is no DICOM series, or one without identifiers.
    """
    if wanted is None:
        return
    file = files_of(image)[0]
    if file.name.lower().endswith(PICTURES) and file.is_file():
        raise ValueError(f"{file} is a picture, and --format {wanted} is for volumes; leave out --format")
    if wanted != DICOM_SEG:
        return
    slices = [path for path in sorted(file.iterdir()) if path.is_file()] if file.is_dir() else [file]
    if not any(is_dicom(path) for path in slices):
        raise ValueError(
            f"{file} is no DICOM series, and --format dicom-seg writes a mask that refers to the slices of one; give the folder "
            "of the series, or another --format"
        )
    from monai_tta.pipeline.dicom_seg import check_identifiers

    check_identifiers(file)
