"""Small DICOM series of any geometry, one file a slice, and files with an attribute taken out."""

import struct

import numpy as np
import SimpleITK as sitk

SHAPE = (14, 36, 40)  # slices, rows, columns
SPACING = (2.0, 1.5)  # from column to column, and from row to row
AXIAL = (1, 0, 0, 0, 1, 0)
SERIES_UID = "1.2.826.0.1.3680043.2.1125.7"


def heights(n=SHAPE[0], step=4.0):
    """Positions of so many slices above each other."""
    return [(-40.0, -30.0, step * k) for k in range(n)]


def stack(orientation, n=SHAPE[0], step=4.0, start=(-40.0, -30.0, -311.0)):
    """Positions of so many slices along the normal of an orientation."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [tuple(np.array(start) + k * step * normal) for k in range(n)]


def write_slices(folder, positions, orientation=AXIAL, pixels=None, names=None, tags=None, spacing=SPACING, uid=SERIES_UID):
    """Write one CT file per position.

    Args:
        folder: may exist already.
        positions: of each slice's first pixel, in mm, in LPS.
        orientation: of all slices, or a function of the slice's number.
        pixels: (slices, rows, columns); a bright box where none are given.
        names: of the files.
        tags: attributes of all slices, or a function of the slice's number; an attribute of None is left out.
        spacing: of all slices, or a function of the slice's number.
        uid: of the series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = box(len(positions)) if pixels is None else pixels
    files = []
    for k, position in enumerate(positions):
        image = sitk.GetImageFromArray(pixels[k])
        image.SetSpacing(spacing(k) if callable(spacing) else spacing)
        given = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.1.{k + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0037": _text(orientation(k) if callable(orientation) else orientation),
            "0020|0032": _text(position),
            "0018|0050": "4.0",
        } | ((tags(k) if callable(tags) else tags) or {})
        for tag, value in given.items():
            if value is not None:
                image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / "now.dcm"))
        writer.Execute(image)
        files.append((folder / "now.dcm").rename(folder / (names[k] if names else f"{k:03d}.dcm")))
    return files


def box(n=SHAPE[0]):
    """A bright box in air, in HU."""
    pixels = np.full((n, *SHAPE[1:]), -1000, np.int16)
    pixels[n // 3 : n // 3 + 4, 10:20, 12:24] = 200
    return pixels


def write_frames(file, pixels):
    """One DICOM file with several frames."""
    file.parent.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(file))
    writer.Execute(sitk.GetImageFromArray(pixels.clip(0).astype(np.uint16)))


def remove(file, group, element):
    """Take one short attribute out of a file in little endian coding."""
    data = file.read_bytes()
    start = data.index(struct.pack("<HH", group, element), 132)
    form = "<H" if data[start + 4 : start + 6].isalpha() else "<I"  # where a kind of value stands, its length has two bytes
    length = struct.unpack(form, data[start + 8 - struct.calcsize(form) : start + 8])[0]
    file.write_bytes(data[:start] + data[start + 8 + length :])


def _text(numbers):
    return "\\".join(f"{number:.6f}" for number in numbers)
