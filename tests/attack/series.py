"""Folders of DICOM series, and photographs."""

import math
import os
import shutil

import numpy as np
import SimpleITK as sitk
from PIL import Image

from tests.attack.arena import PHOTOGRAPHS, SMALL, Attack, command, small_bundle
from tests.bundles.test_ct_bundle import STRAIGHT, sitk_image, write_series
from tests.pipeline.dicom_slices import AXIAL, SERIES_UID, box, heights, remove, stack, write_frames, write_slices

CT = (*SMALL[:2], ("[64, 64, 32]", "[16, 16, 8]"))


def series(make, bad=1, says="", images=2):
    """A good series, and one that ``make(folder, rng)`` changes."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        for name in ("good", "other"):
            write_series(sitk_image(STRAIGHT), folder / "in" / name)
        make(folder / "in" / "other", rng)
        bundle = small_bundle(folder / "bundle", "abdomen_ct", CT)
        return Attack(command(folder, rng, folder / "in", bundle=bundle), images=images, bad=bad, says=says)

    return attack


def _missing(folder, rng):
    (folder / f"{int(rng.integers(2, 11)):03d}.dcm").unlink()


def _truncated(folder, rng):
    file = folder / f"{int(rng.integers(0, 14)):03d}.dcm"
    data = file.read_bytes()
    file.write_bytes(data[: int(rng.integers(200, len(data) - 100))])


def _mixed(folder, rng):
    for k, file in enumerate(sorted(folder.glob("*.dcm"))):
        if k % 2:
            file.write_bytes(file.read_bytes().replace(b"3680043.2.1125.3", b"3680043.2.1125.4"))


def _two(folder, rng, **of_second):
    """Two series of other UIDs, numbers and descriptions; the files of the second."""
    numbers = [str(number) for number in rng.permutation(20)[:2]]
    description = "".join(map(chr, rng.integers(32, 126, int(rng.integers(0, 60))))).replace("\\", "")
    write_slices(folder, heights(), tags={"0020|0011": numbers[0], "0008|103e": description})
    names = [f"other{k:03d}.dcm" for k in range(14)]
    tags = {"0020|0011": numbers[1], "0008|103e": description} | of_second
    return write_slices(folder, heights(), names=names, tags=tags, uid=f"{SERIES_UID}.{numbers[1]}")


def _two_of_which_one_is_cut(folder, rng):
    _two(folder, rng)[int(rng.integers(2, 11))].unlink()


def _two_of_which_one_is_damaged(folder, rng):
    _two(folder, rng)[int(rng.integers(0, 14))].write_bytes(bytes(128) + b"DICM" + rng.bytes(3000))


def _examination(folder, rng):
    _two(folder, rng, **{"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    (shot,) = write_slices(folder, heights(1), names=["shot.dcm"], uid=f"{SERIES_UID}.99")
    remove(shot, 0x20, 0x32)


def _other_size(folder, rng):
    part = sitk.GetImageFromArray(np.zeros((1, 20, 22), np.int16))[:, :, 0]
    source = sitk.ImageFileReader()
    source.SetFileName(str(folder / "005.dcm"))
    source.ReadImageInformation()
    for key in source.GetMetaDataKeys():
        if key not in ("0028|0010", "0028|0011"):
            part.SetMetaData(key, source.GetMetaData(key))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "005.dcm"))
    writer.Execute(part)


def written(make):
    """Files that ``make(folder, rng)`` writes in place of the series."""

    def change(folder, rng):
        shutil.rmtree(folder)
        make(folder, rng)

    return change


def _tipped(angle):
    return (1, 0, 0, 0, math.cos(angle), math.sin(angle))


def _any_orientation(folder, rng):
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    orientation = tuple(np.round(axes[:, :2].T.ravel(), 8))
    write_slices(folder, stack(orientation), orientation)


def _tilted(folder, rng):
    write_slices(folder, heights(), _tipped(rng.uniform(0.02, 0.5) * rng.choice([-1, 1])))


def _uneven(folder, rng):
    change = int(rng.integers(4, 10))
    steps = np.where(np.arange(14) < change, 2.5, rng.uniform(3, 8))
    write_slices(folder, [(-40, -30, z) for z in np.cumsum(steps)])


def _scattered(by, along=(1, 1, 1)):
    def make(folder, rng):
        write_slices(folder, [tuple(np.array(p) + by * rng.uniform(-1, 1, 3) * along) for p in heights()])

    return make


def _shuffled(folder, rng):
    order = rng.permutation(14)
    numbers = rng.permutation(14)
    names = [f"{n:03d}.dcm" for n in rng.permutation(14)]
    pixels = box()[order]
    places = [heights()[k] for k in order]
    write_slices(folder, places, pixels=pixels, names=names, tags=lambda k: {"0020|0013": str(numbers[k])})


def _localizer(folder, rng):
    write_slices(folder, heights())
    across = (0, 1, 0, 0, 0, -1) if rng.random() < 0.5 else AXIAL
    image_type = {"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"} if rng.random() < 0.5 else None
    write_slices(folder, [(0, 0, rng.uniform(100, 200))], across, names=["0scout.dcm"], tags=image_type)


def _without(group, element, some=True):
    def make(folder, rng):
        files = write_slices(folder, heights())
        for file in rng.permutation(files)[: int(rng.integers(1, 13)) if some else 14]:
            remove(file, group, element)

    return make


def _tagged(tag, texts):
    """One attribute changes at a random slice."""

    def make(folder, rng):
        change = int(rng.integers(1, 13))
        write_slices(folder, heights(), tags=lambda k: {tag: texts[k >= change]})

    return make


def _phases(folder, rng):
    second = box() + rng.integers(1, 9, (14, 1, 1), np.int16)
    write_slices(folder, heights() * 2, pixels=np.concatenate([box(), second]))


def _stretched(folder, rng):
    odd = int(rng.integers(0, 14))
    write_slices(folder, heights(), spacing=lambda k: (2.0, 1.5 * (rng.uniform(1.1, 2) if k == odd else 1)))


def _cut_number(folder, rng):
    """Noise in one slice's position."""
    file = write_slices(folder, heights())[int(rng.integers(0, 14))]
    data = bytearray(file.read_bytes())
    start = data.index(b"\x20\x00\x32\x00") + 8
    data[start : start + 4] = bytes(rng.integers(33, 126, 4, np.uint8))
    file.write_bytes(bytes(data))


def _dotdot(seed, folder):
    """`..` as the only argument, from within a series."""
    rng = np.random.default_rng(seed)
    write_series(sitk_image(STRAIGHT), folder / "in" / "patient")
    (folder / "in" / "patient" / "within").mkdir()
    bundle = small_bundle(folder / "bundle", "abdomen_ct", CT)
    here = folder / "in" / "patient" / "within"
    words = command(folder, rng, ("..", ".")[seed % 2] if seed % 2 == 0 else "../.", bundle=bundle)
    return Attack(words, images=1, bad=0, before=lambda: os.chdir(here))


FAMILY = {
    "as they should be": series(lambda d, rng: None, 0),
    "a slice missing": series(_missing, says="some are missing|not evenly apart"),
    "a slice truncated": series(_truncated, None),
    "a slice empty": series(lambda d, rng: (d / "004.dcm").write_bytes(b""), None),
    "two series in one folder": series(_mixed, 0, images=3),
    "two series in one folder, one of them not whole": series(
        written(_two_of_which_one_is_cut), images=3, says="some are missing"
    ),
    "two series in one folder, a slice damaged": series(written(_two_of_which_one_is_damaged), says="cannot be read"),
    "a series, localizers and a screenshot in one folder": series(written(_examination), 0, says="skipped 1 .*localizers"),
    "a slice of another size": series(_other_size, None),
    "text beside the slices": series(lambda d, rng: (d / "README.txt").write_text("hello", encoding="utf-8"), 0),
    "noise named as a slice": series(lambda d, rng: (d / "zzz.dcm").write_bytes(rng.bytes(3000)), 0),
    "noise with the mark of DICOM": series(
        lambda d, rng: (d / "zzz.dcm").write_bytes(bytes(128) + b"DICM" + rng.bytes(3000)), None
    ),
    "a slice twice": series(lambda d, rng: shutil.copy(d / "003.dcm", d / "copy.dcm"), says="a slice twice"),
    "any orientation": series(written(_any_orientation), 0),
    "shuffled": series(written(_shuffled), 0),
    "positions rounded": series(written(_scattered(0.04)), 0),
    "positions scattered along": series(written(_scattered(3, (0, 0, 1))), says="not evenly apart|different pixels|missing"),
    "positions scattered across": series(written(_scattered(3, (1, 1, 0))), says="aside of the line|tilted"),
    "a tilted gantry": series(written(_tilted), says="tilted by"),
    "two distances": series(written(_uneven), says="not evenly apart|some are missing"),
    "a localizer among them": series(written(_localizer), says="localizer|two orientations|not evenly apart"),
    "several time points": series(written(_phases), says="two slices that show different pixels"),
    "pixels of another size": series(written(_stretched), says="pixels of two sizes"),
    "some without a position": series(written(_without(0x20, 0x32)), says="position .* is missing"),
    "all without an orientation": series(written(_without(0x20, 0x37, some=False)), says="orientation .* is missing"),
    "some without rescale": series(written(_without(0x28, 0x1052)), says="no rescale intercept"),
    "two thicknesses": series(written(_tagged("0018|0050", ("3.0", "5.0"))), says="differ in slice thickness"),
    "two days": series(written(_tagged("0008|0021", ("20200101", "20200102"))), says="differ in series date"),
    "two frames of reference": series(written(_tagged("0020|0052", ("1.2.3", "1.2.4"))), says="frame of reference"),
    "several frames in a file": series(
        written(lambda d, rng: write_frames(d / "all.dcm", rng.normal(50, 9, (14, 36, 40)))), says="14 frames"
    ),
    "a position that is none": series(written(_cut_number), None),
    "a link to nothing beside them": series(lambda d, rng: (d / "gone.dcm").symlink_to("nowhere"), None),
    "a link to itself beside them": series(lambda d, rng: (d / "loop").symlink_to("loop"), None),
    "a pipe beside them": series(lambda d, rng: os.mkfifo(d / "pipe"), says="a device or a pipe"),
    "nothing but the mark": series(lambda d, rng: [f.write_bytes(bytes(128) + b"DICM") for f in d.iterdir()]),
    "one slice": series(lambda d, rng: [f.unlink() for f in sorted(d.iterdir())[1:]], None),
    "dots for a name": _dotdot,
}


def photograph(make, bad=1, says="", name="bad.png"):
    """A good photograph, and a bad one that ``make(path, rng)`` writes."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        (folder / "in").mkdir()
        Image.fromarray(rng.integers(0, 255, (40, 44, 3), np.uint8)).save(folder / "in" / "good.png")
        make(folder / "in" / name, rng)
        bundle = small_bundle(folder / "bundle", "vessel_fundus", PHOTOGRAPHS)
        return Attack(command(folder, rng, folder / "in", bundle=bundle), images=2, bad=bad, says=says)

    return attack


def _png(mode="RGB", size=(44, 40), form="PNG"):
    def make(path, rng):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).convert(mode).save(path, format=form)

    return make


def _cut(form):
    def make(path, rng):
        _png(form=form)(path, rng)
        data = path.read_bytes()
        path.write_bytes(data[: int(rng.integers(20, len(data) - 20))])

    return make


def _huge(path, rng):
    """A header of 60,000 by 60,000."""
    _png()(path, rng)
    import struct
    import zlib

    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, 16, 60000, 60000)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    path.write_bytes(bytes(data))


def _bomb(path, rng):
    Image.new("L", (16000, 12000)).save(path)


def _deep_values(kind, form, factor=1.0):
    """Grey of another depth."""

    def make(path, rng):
        values = rng.uniform(0, 255, (40, 44)) * factor
        Image.fromarray(values.astype(kind)).save(path, format=form)

    return make


def _alpha(path, rng):
    """A picture that is transparent in one place."""
    values = rng.integers(0, 255, (40, 44, 4), np.uint8)
    values[..., 3] = 255
    values[tuple(rng.integers(0, 40, 2))][3] = rng.integers(0, 255)
    Image.fromarray(values).save(path)


def _colour_key(path, rng):
    """A palette, of which one colour that occurs is transparent."""
    picture = Image.fromarray(rng.integers(0, 8, (40, 44), np.uint8), mode="P")
    picture.putpalette(rng.integers(0, 255, 24, np.uint8).tobytes())
    picture.save(path, transparency=int(rng.integers(8)))


def _pages(form):
    def make(path, rng):
        first, second = (Image.fromarray(rng.integers(0, 255, (40, 44, 3), np.uint8)) for _ in range(2))
        first.save(path, format=form, save_all=True, append_images=[second])

    return make


def _turned(path, rng):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(2, 9))
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(path, format="JPEG", exif=exif)


def _exif_of_noise(path, rng):
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(path, format="JPEG", exif=b"Exif\0\0" + rng.bytes(60))


PHOTOGRAPHIC = {
    "16 bits": photograph(_deep_values(np.uint16, "PNG", 257), says="deep grey values"),
    "16 bits, the other way round": photograph(_deep_values(">u2", "TIFF", 257), says="deep grey values", name="bad.tif"),
    "12 bits in 16": photograph(_deep_values(np.uint16, "PNG", 16), says="of which the highest is"),
    "32 bits": photograph(_deep_values(np.int32, "TIFF"), says="32-bit values", name="bad.tif"),
    "floats": photograph(_deep_values(np.float32, "TIFF", 1 / 255), says="floating-point values", name="bad.tif"),
    "transparent in one place": photograph(_alpha, says="transparent in places"),
    "a transparent colour": photograph(_colour_key, says="transparent in places"),
    "colours for print": photograph(_png("CMYK", form="JPEG"), says="CMYK", name="bad.jpg"),
    "two pages": photograph(_pages("TIFF"), says="2 pages or frames", name="bad.tif"),
    "a moving PNG": photograph(_pages("PNG"), says="2 pages or frames"),
    "a moving GIF by name of PNG": photograph(_pages("GIF"), says="2 pages or frames"),
    "turned by its EXIF": photograph(_turned, 0, "turned as its EXIF orientation"),
    "EXIF of noise": photograph(_exif_of_noise, 0, name="bad.jpg"),
    "grey": photograph(_png("L"), 0),
    "one bit": photograph(_png("1"), 0),
    "palette": photograph(_png("P"), 0),
    "transparent": photograph(_png("RGBA"), 0),
    "truncated PNG": photograph(_cut("PNG"), None),
    "truncated JPEG": photograph(_cut("JPEG"), None, name="bad.jpg"),
    "truncated TIFF": photograph(_cut("TIFF"), None, name="bad.tif"),
    "JPEG by name of PNG": photograph(_png(form="JPEG"), 0),
    "GIF by name of PNG": photograph(_png(form="GIF", mode="P"), 0),
    "huge header": photograph(_huge, says="damaged|memory|declares"),
    "bomb": photograph(_bomb, says="damaged|memory|declares|pixels"),
    "one pixel": photograph(_png(size=(1, 1)), None),
    "one row": photograph(_png(size=(60, 1)), None),
    "noise": photograph(lambda p, rng: p.write_bytes(rng.bytes(999)), says="damaged"),
    "empty": photograph(lambda p, rng: p.write_bytes(b""), says="empty"),
    "a volume by name": photograph(lambda p, rng: p.write_bytes(b"\x1f\x8b\x08" + rng.bytes(99)), says="damaged"),
}
