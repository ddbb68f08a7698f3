"""Names, links and arguments that mislead."""

import os
import shutil

import numpy as np
import SimpleITK as sitk

from tests.attack.arena import Attack, command, good_images, save, volume

NAMES = {
    "rich markup": "[red]x [bold] y.nii.gz",
    "open markup": "[red [.nii.gz",
    "newline": "a\nb.nii.gz",
    "carriage return": "a\rfailed nothing.nii.gz",
    "escape sequences": "\x1b[2J\x1b]0;title\x07.nii.gz",
    "blanks": "  two  blanks .nii.gz",
    "quotes": 'it\'s "quoted" `x` $(y).nii.gz',
    "globs": "*?[a-z]{1,2}.nii.gz",
    "backslashes": "a\\b\\n.nii.gz",
    "leading dashes": "--out.nii.gz",
    "leading tilde": "~root.nii.gz",
    "percent and braces": "%s%n{0}{x}.nii.gz",
    "comma and semicolon": "a,b;c|d&.nii.gz",
    "only an ending": "x.nii.gz.nii.gz",
    "two dots within": "a..b...nii.gz",
    "at and dollar": "@image$x#y.nii.gz",
    "letters of many alphabets": "Müller-Ünal 王小明 Ελλη.nii.gz",
    "right to left": "\u202egz.iin.nii.gz",
    "zero width": "a\u200bb\ufeff.nii.gz",
}


def named(name, bad=0, says=""):
    """An image of that name among good ones; the folder is given."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        save(folder / "in" / "plain.nii.gz", volume(rng))
        os.rename(
            os.fsencode(inside / "plain.nii.gz"),
            os.fsencode(inside) + b"/" + (name if isinstance(name, bytes) else name.encode()),
        )
        return Attack(command(folder, rng, inside), images=3, bad=bad, says=says)

    return attack


def linked(make, bad, says="", images=3):
    """A link, a pipe or a folder among good images; the folder is given."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        make(inside, rng)
        return Attack(command(folder, rng, inside), images=images, bad=bad, says=says)

    return attack


def given(make, images, bad, says="", codes=(0, 3)):
    """Strange arguments in place of the folder: what ``make(inside, rng)`` returns."""

    def attack(seed, folder):
        rng = np.random.default_rng(seed)
        inside = good_images(folder, rng)
        arguments = make(inside, rng)
        return Attack(command(folder, rng, *arguments), images=images, bad=bad, says=says, codes=codes)

    return attack


def _twins(inside, rng):
    for folder in ("one", "two"):
        (inside / folder).mkdir()
        save(inside / folder / "same.nii.gz", volume(rng))
    return inside / "one", inside / "two"


def _fifo(inside, rng):
    os.mkfifo(inside / "pipe.nii.gz")
    return (inside / "pipe.nii.gz",)


def _elsewhere(inside, rng):
    (inside.parent / "elsewhere").mkdir()
    save(inside.parent / "elsewhere" / "real.nii.gz", volume(rng))
    (inside / "link.nii.gz").symlink_to("../elsewhere/real.nii.gz")


def _long(inside, rng):
    save(inside.parent / "x.nii.gz", volume(rng))
    shutil.move(inside.parent / "x.nii.gz", inside / ("n" * 248 + ".nii.gz"))


def _save_all(inside, rng, *names):
    for name in names:
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".mha"):
            sitk.WriteImage(sitk.GetImageFromArray(volume(rng)), str(inside / name))
        else:
            save(inside / name, volume(rng))


def _deep(inside, rng):
    _save_all(inside, rng, "p1/x/same.nii.gz", "p2/x/same.nii.gz")


def _endings(inside, rng):
    _save_all(inside, rng, "same.nii.gz", "same.mha", "other/same.nii")


def _composed(inside, rng):
    _save_all(inside, rng, "p/a.nii.gz", "p_a.nii.gz")


def _cases(inside, rng):
    _save_all(inside, rng, "Scan.NII", "scan.nii")


def _accents(inside, rng):
    _save_all(inside, rng, "\u00e9.nii", "e\u0301.nii")


def _long_folders(inside, rng):
    _save_all(inside, rng, *(f"{letter * 100}/{'n' * 120}.nii.gz" for letter in "xy"))


def _hidden(inside, rng):
    _save_all(inside, rng, ".x.nii.gz", "p/._a0.nii.gz", ".folder/x.nii.gz")


def _circle(inside, rng):
    _save_all(inside, rng, "p/q/x.nii.gz")
    (inside / "p" / "q" / "up").symlink_to("../..")
    (inside / "p" / "around").symlink_to("../p")


def _old_masks(inside, rng):
    _save_all(inside, rng, "old/a0_seg.nii.gz")
    (inside / "old" / "records.json").write_text("[]", encoding="utf-8")


def _dicom(path, modality):
    path.parent.mkdir(exist_ok=True)
    tag = b"\x08\x00\x60\x00CS" + len(modality).to_bytes(2, "little") + modality
    path.write_bytes(bytes(128) + b"DICM" + tag + bytes(200))


def _stray(inside, rng):
    _dicom(inside / "IM0001", b"CT")


def _contours(inside, rng):
    _dicom(inside / "contours" / "1.dcm", b"RTSTRUCT")


def _nothing(seed, folder):
    """An empty argument is the folder in which the command runs."""
    rng = np.random.default_rng(seed)
    good_images(folder, rng)
    words = command(folder, rng, "")
    return Attack(words, images=None, says="holds no image", codes=(2,), before=lambda: os.chdir(folder / "bundle"))


FAMILY = {
    **{name: named(text) for name, text in NAMES.items()},
    "bytes that are no text": named(b"\xff\xfe\x80scan.nii.gz", bad=None),
    "half a character": named(b"scan\xc3.nii.gz", bad=None),
    "as long as can be": linked(_long, 1, "too long|File name"),
    "link to an image": linked(_elsewhere, 0),
    "link to itself": linked(lambda d, rng: (d / "loop.nii.gz").symlink_to("loop.nii.gz"), 1, "leads nowhere"),
    "link to nothing": linked(lambda d, rng: (d / "gone.nii.gz").symlink_to("/nowhere/x.nii.gz"), 1, "leads nowhere"),
    "link to a folder": linked(lambda d, rng: (d / "f.nii.gz").symlink_to(d.parent), 0, images=2),
    "link to its own folder": linked(lambda d, rng: (d / "self").symlink_to(d), 0, images=2),
    "folder named as an image": linked(lambda d, rng: (d / "f.nii.gz").mkdir(), 0, images=2),
    "pipe in a folder": linked(_fifo, 0, images=2),
    "pipe as an argument": given(lambda d, rng: [*_fifo(d, rng)], 1, 1, "no file but a device or a pipe"),
    "device as an argument": given(lambda d, rng: ["/dev/zero"], 1, 1, "no file but a device or a pipe"),
    "dots in a path": given(lambda d, rng: [d / ".." / "in" / "." / "a0.nii.gz"], 1, 0),
    "missing file": given(lambda d, rng: [d / "a0.nii.gz", d / "no.nii.gz"], 2, 1, "does not exist"),
    "missing folder": given(lambda d, rng: [d / "a0.nii.gz", d / "no"], 2, 1, "does not exist"),
    "file as a folder": given(lambda d, rng: [d / "a0.nii.gz" / "x.nii.gz"], 1, 1, "does not exist"),
    "empty folder": given(lambda d, rng: [(d / "e").mkdir() or d / "e"], None, None, "holds no image", (2,)),
    "twice the same": given(lambda d, rng: [d / "a0.nii.gz", d / ".." / "in" / "a0.nii.gz"], 1, 0, "skipped 1 .given twice"),
    "two of one name": given(_twins, 2, 0, r"one_same .same\.nii\.gz"),
    "two of one name, deep down": linked(_deep, 0, r"p2_x_same .same\.nii\.gz", images=4),
    "endings apart": linked(_endings, 0, r"same_mha .same\.mha", images=5),
    "names that are others put together": linked(_composed, 0, "p_a_2", images=4),
    "letters that differ by their case": linked(_cases, 0, images=4),
    "an accent in two ways": linked(_accents, 0, images=4),
    "a name of 120 letters in folders of 100": linked(_long_folders, 0, images=4),
    "hidden files": linked(_hidden, 0, "skipped 3 .hidden", images=2),
    "folders that are links to each other": linked(_circle, 0, "skipped 2 .a link back", images=3),
    "a kind that is not looked for": linked(lambda d, rng: (d / "x.mgz").touch(), 0, "skipped 1 .of a kind.*x.mgz", images=2),
    "masks of an earlier run among the images": linked(_old_masks, 0, "skipped 1 .holds the masks of a run", images=2),
    "one DICOM file among the images": linked(_stray, 0, "skipped 1 .one DICOM file beside other images", images=2),
    "an RTSTRUCT in a folder of its own": linked(_contours, 0, "skipped 1 .DICOM of the kind RTSTRUCT", images=2),
    "a path too long": given(lambda d, rng: ["/" + "x" * 5000], None, None, "too long", (2,)),
    "an empty argument": _nothing,
    "a leading dash": given(lambda d, rng: ["-x.nii.gz"], None, None, "", (2,)),
}
