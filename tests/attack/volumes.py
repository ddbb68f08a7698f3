"""NIfTI and other volumes that are damaged, mislabelled, or make no sense."""

import gzip
import struct

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from tests.attack.arena import Attack, command, good_images, save, volume


def _with(make, bad=1, says="", name="bad.nii.gz", codes=(0, 3)):
    """One bad file, written by ``make(path, rng)``, among good ones."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        make(inside / name, rng)
        return Attack(command(folder, rng, inside), images=3, bad=bad, says=says, codes=codes)

    return attack


def _header(path, rng, **fields):
    """A NIfTI file with fields of its header overwritten: name=(offset, format, values)."""
    raw = path.with_name("raw.tmp")
    save(raw.with_suffix(".nii"), volume(rng))
    data = bytearray(raw.with_suffix(".nii").read_bytes())
    raw.with_suffix(".nii").unlink()
    for offset, form, values in fields.values():
        struct.pack_into(form, data, offset, *values)
    path.write_bytes(gzip.compress(bytes(data)) if path.name.endswith(".gz") else bytes(data))


def header(says="", bad=1, name="bad.nii", **fields):
    return _with(lambda path, rng: _header(path, rng, **fields), bad, says, name)


def truncated(path, rng):
    save(path, volume(rng))
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(1, len(data) - 8))])


def flipped(path, rng):
    """A compressed file with some bytes changed."""
    save(path, volume(rng))
    data = bytearray(path.read_bytes())
    for place in rng.integers(10, len(data), 8):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def bomb(path, rng):
    """Compressed zeros, of which the header declares a thousand times as many as there are."""
    data = nib.Nifti1Image(np.zeros((1, 1, 1), np.float32), np.eye(4)).header
    data.set_data_shape((6000, 6000, 1400))
    with gzip.open(path, "wb", 9) as file:
        file.write(data.binaryblock + b"\0" * 4)
        for _ in range(200):
            file.write(bytes(1 << 20))


def trailing(path, rng):
    """A good image with two hundred million more zeros behind it."""
    save(path, volume(rng))
    data = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb", 9) as file:
        file.write(data)
        for _ in range(200):
            file.write(bytes(1 << 20))


def whole(value):
    return lambda path, rng: save(path, np.full((12, 11, 10), value, np.float32))


def part(value):
    def make(path, rng):
        data = volume(rng)
        data[rng.random(data.shape) < rng.uniform(0.001, 0.5)] = value
        save(path, data)

    return make


def shaped(*shape):
    return lambda path, rng: save(path, rng.normal(size=shape).astype(np.float32))


def typed(kind):
    return lambda path, rng: save(path, (volume(rng) * 50).astype(kind))


def colours(path, rng):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(path, np.zeros((12, 11, 10), kind))


def placed(affine):
    def make(path, rng):
        image = nib.Nifti1Image(volume(rng), None)
        image.header.set_sform(np.asarray(affine, float), code=1)
        image.header["qform_code"] = 0
        zooms = np.sqrt((np.asarray(affine, float)[:3, :3] ** 2).sum(0))
        if np.isfinite(zooms).all() and (zooms > 0).all():
            image.header.set_zooms(zooms)
        nib.save(image, path)

    return make


def turned(path, rng):
    """A random rotation, with mirrored axes and unequal voxel sizes."""
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(rng.uniform(0.7, 1.8, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    save(path, volume(rng), affine)


def forms(sform=None, qform=None):
    """A file whose sform and qform are made by functions of the generator; None leaves one unset."""

    def make(path, rng):
        image = nib.Nifti1Image(volume(rng), None)
        image.set_qform(qform and qform(rng), 1 if qform else 0)
        image.set_sform(sform and sform(rng), int(rng.integers(1, 5)) if sform else 0)
        nib.save(image, path)

    return make


def straight(rng):
    return np.diag([1.0, 1, 1, 1])


def beside(rng):
    """Half a voxel to a hundred away."""
    affine = straight(rng)
    affine[:3, 3] = rng.uniform(0.5, 100, 3) * rng.choice([-1, 1], 3)
    return affine


def mirrored(rng):
    return np.diag([*rng.permutation([-1.0, 1, 1]), 1])


def photograph(path, rng):
    Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(path, format="PNG")


def bytes_of(data):
    return lambda path, rng: path.write_bytes(data)


def noise(path, rng):
    path.write_bytes(rng.bytes(int(rng.integers(1, 5000))))


def meta_image(path, rng):
    sitk.WriteImage(sitk.GetImageFromArray(volume(rng)), str(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def meta_image_huge(path, rng):
    sitk.WriteImage(sitk.GetImageFromArray(volume(rng)), str(path))
    path.write_bytes(path.read_bytes().replace(b"DimSize = 10 11 12", b"DimSize = 90000 90000 90000"))


DIMS, PIXDIM, OFFSET, TYPE = 40, 76, 108, 70
FAMILY = {
    "truncated": _with(truncated, says="bad.nii.gz"),
    "truncated, plain": _with(truncated, says="bad.nii", name="bad.nii"),
    "bytes flipped": _with(flipped, bad=None),
    "huge dims": header("declares|no readable", dims=(DIMS, "<8h", (3, 32767, 32767, 32767, 1, 1, 1, 1))),
    "huge dims, compressed": header(
        "declares|no readable", name="bad.nii.gz", dims=(DIMS, "<8h", (3, 32767, 32767, 32767, 1, 1, 1, 1))
    ),
    "somewhat large dims": header("truncated", dims=(DIMS, "<8h", (3, 400, 400, 400, 1, 1, 1, 1))),
    "dims below zero": header("bad.nii", dims=(DIMS, "<8h", (3, -5, 11, 10, 1, 1, 1, 1))),
    "zero dims": header("no voxels|no readable|damaged", dims=(DIMS, "<8h", (3, 0, 11, 10, 1, 1, 1, 1))),
    "no dims": header("bad.nii", dims=(DIMS, "<8h", (0, 12, 11, 10, 1, 1, 1, 1))),
    "nine dims": header("bad.nii", dims=(DIMS, "<8h", (9, 12, 11, 10, 1, 1, 1, 1))),
    "unknown type": header("bad.nii", kind=(TYPE, "<h", (777,))),
    "spacing of zero": header("", None, zooms=(PIXDIM, "<4f", (1, 0, 0, 0))),
    "spacing of NaN": header("", None, zooms=(PIXDIM, "<4f", (float("nan"),) * 4)),
    "offset beyond the end": header("truncated", offset=(OFFSET, "<f", (1e9,))),
    "offset of NaN": header("bad.nii", None, offset=(OFFSET, "<f", (float("nan"),))),
    "slope of infinity": header("", None, slope=(112, "<2f", (float("inf"), float("nan")))),
    "magic of nothing": header("bad.nii", None, magic=(344, "<4s", (b"\0\0\0\0",))),
    "bomb": _with(bomb, says="memory|truncated"),
    "zeros behind the end": _with(trailing, bad=0),
    "NaN throughout": _with(whole(np.nan), says="NaN in 100"),
    "infinite throughout": _with(whole(np.inf), says="NaN in 100"),
    "constant": _with(whole(3.0), bad=0),
    "vast numbers": _with(whole(3e38), bad=None),
    "NaN in places": _with(part(np.nan), says="NaN in"),
    "infinity in places": _with(part(np.inf), says="NaN in"),
    "minus infinity in places": _with(part(-np.inf), says="NaN in"),
    "one voxel": _with(shaped(1, 1, 1), says="no writer"),
    "one line": _with(shaped(1, 1, 40), bad=None),
    "one slice": _with(shaped(30, 30, 1), bad=None),
    "two dimensions": _with(shaped(20, 20), bad=None),
    "one dimension": _with(shaped(20), bad=None),
    "four dimensions": _with(shaped(9, 9, 9, 3), bad=1, says="channel"),
    "five dimensions": _with(shaped(9, 9, 9, 1, 2), bad=None),
    "voxel of 4D": _with(shaped(1, 1, 1, 1), bad=None),
    "integers": _with(typed(np.int16), bad=0),
    "bytes": _with(typed(np.uint8), bad=0),
    "64 bit": _with(typed(np.float64), bad=0),
    "complex": _with(typed(np.complex64), says="complex"),
    "colours": _with(colours, bad=None),
    "any orientation": _with(turned, bad=0),
    "affine of NaN": _with(placed(np.full((4, 4), np.nan)), says="affine|header", bad=1),
    "affine of zeros": _with(placed(np.zeros((4, 4))), bad=1, says="affine|header"),
    "singular affine": _with(placed([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), says="affine", bad=1),
    "voxels of a kilometre": _with(placed(np.diag([1e6, 1e6, 1e6, 1])), bad=1),
    "voxels of a nanometre": _with(placed(np.diag([1e-6, 1e-6, 1e-6, 1])), bad=None),
    "sheared affine": _with(placed([[1, 0.5, 0.2, 0], [0, 1, 0.4, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), says="sheared"),
    "qform beside sform": _with(forms(straight, beside), says="sform and qform disagree"),
    "qform mirrored": _with(forms(straight, mirrored), says="sform and qform disagree"),
    "sform alone": _with(forms(straight), bad=0),
    "qform alone": _with(forms(None, beside), bad=0),
    "no form": _with(forms(), says="neither its sform nor its qform is set"),
    "voxel sizes beside an sform": header("contradicts|disagree", zooms=(PIXDIM, "<4f", (1, 2, 3, 2)), code=(252, "<h", (0,))),
    "a photograph by name": _with(photograph, says="NIfTI"),
    "text by name": _with(bytes_of(b"patient,age\n1,2\n"), says="NIfTI"),
    "empty": _with(bytes_of(b""), says="empty"),
    "gzip of nothing": _with(bytes_of(gzip.compress(b"")), says="NIfTI"),
    "gzip in gzip": _with(
        lambda path, rng: (save(path, volume(rng)), path.write_bytes(gzip.compress(path.read_bytes()))), says="NIfTI"
    ),
    "not compressed by name": _with(
        lambda path, rng: _header(path.with_name("x.nii"), rng) or path.with_name("x.nii").rename(path), bad=None
    ),
    "noise": _with(noise, says="NIfTI"),
    "noise, plain": _with(noise, says="NIfTI", name="bad.nii"),
    "truncated MetaImage": _with(meta_image, name="bad.mha"),
    "huge MetaImage": _with(meta_image_huge, says="memory|truncated|declares", name="bad.mha"),
    "nrrd of noise": _with(noise, name="bad.nrrd"),
}
