"""A DICOM series is read where each slice's own header puts it, or refused with what is wrong."""

import math
import re

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from torch import nn

from monai_tta import Source
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.declared_place import check_loaded_place
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.segment import segment
from monai_tta.pipeline.slice_headers import read_pixels, read_slice
from tests.attack.arena import small_bundle
from tests.attack.series import CT
from tests.pipeline.dicom_slices import AXIAL, SERIES_UID, box, heights, remove, stack, write_frames, write_slices

COSINE, SINE = math.cos(0.3), math.sin(0.3)
TIPPED = (1, 0, 0, 0, COSINE, SINE)
OBLIQUE = (COSINE, SINE, 0, -SINE * SINE, COSINE * SINE, COSINE)
SAGITTAL = (0, 1, 0, 0, 0, -1)
READER = LoadImage(reader="ITKReader")
SCATTER = np.random.default_rng(0).uniform(-1, 1, (14, 3))


def moved(by):
    """Positions that are scattered by so many mm along each axis."""
    return [tuple(np.array(position) + by * part) for position, part in zip(heights(), SCATTER, strict=True)]


def numbered(folder, text):
    return write_slices(folder, heights(), tags=lambda k: {"0020|0013": text(k)})


GOOD = {
    "axial": lambda d: write_slices(d, heights()),
    "numbers run backwards": lambda d: numbered(d, lambda k: str(99 - k)),
    "all of one number": lambda d: numbered(d, lambda k: "1"),
    "names run backwards": lambda d: write_slices(d, heights(), names=[f"{99 - k}.dcm" for k in range(14)]),
    "from top to bottom": lambda d: write_slices(d, heights()[::-1]),
    "tipped and straight": lambda d: write_slices(d, stack(TIPPED), TIPPED),
    "oblique in two ways": lambda d: write_slices(d, stack(OBLIQUE), OBLIQUE),
    "sagittal": lambda d: write_slices(d, stack(SAGITTAL), SAGITTAL),
    "prone": lambda d: write_slices(d, stack((-1, 0, 0, 0, -1, 0)), (-1, 0, 0, 0, -1, 0)),
    "feet first": lambda d: write_slices(d, stack((-1, 0, 0, 0, 1, 0)), (-1, 0, 0, 0, 1, 0)),
    "rounded positions": lambda d: write_slices(d, moved(0.02)),
    "rounded pixel sizes": lambda d: write_slices(d, heights(), spacing=lambda k: (2 + 1e-6 * (k == 4), 1.5)),
    "two slices": lambda d: write_slices(d, heights()[:2]),
    "one slice": lambda d: write_slices(d, stack(OBLIQUE)[:1], OBLIQUE),
    "acquired in two parts": lambda d: write_slices(d, heights(), tags=lambda k: {"0020|0012": str(k // 7)}),
    "text beside": lambda d: (write_slices(d, heights()), (d / "notes.txt").write_text("head first", encoding="utf-8")),
    "a directory and a report beside": lambda d: (
        write_slices(d, heights()),
        (d / "DICOMDIR").write_bytes(of_kind(b"1.2.840.10008.1.3.10")),
        (d / "report").write_bytes(of_kind(b"1.2.840.10008.5.1.4.1.1.88.11")),
    ),
    "the first slice rescaled to halves": lambda d: rescale(write_slices(d, heights())[0], b".5"),
}


def of_kind(number):
    """The beginning of a DICOM file that says what kind of object it is."""
    return bytes(128) + b"DICM\x02\x00\x02\x00UI" + len(number).to_bytes(2, "little") + number + bytes(200)


def rescale(file, slope):
    data = file.read_bytes()
    start = data.index(b"\x28\x00\x53\x10") + 8
    assert data[start : start + 2] == b"1 "
    file.write_bytes(data[:start] + slope + data[start + 2 :])


@pytest.mark.parametrize("name", GOOD)
def test_each_slice_is_read_where_its_header_puts_it(name, tmp_path):
    GOOD[name](tmp_path)
    place = check_input_file(tmp_path)
    volume = READER(str(tmp_path))
    check_loaded_place(tmp_path, place, volume)
    to_voxels = np.linalg.inv(np.asarray(volume.meta["original_affine"], float))
    headers = [header for file in tmp_path.iterdir() if (header := read_slice(file))]
    assert len(headers) == volume.shape[2] == place.shape[2]
    for header in headers:
        voxel = to_voxels @ [*(header.position * [-1, -1, 1]), 1]
        np.testing.assert_allclose(voxel[:3] - np.round(voxel[:3]), 0, atol=0.1)
        assert tuple(np.round(voxel[:2]).astype(int)) == (0, 0)
        np.testing.assert_array_equal(np.asarray(volume[:, :, round(voxel[2])]).T, np.squeeze(read_pixels(header.file)))


def beside(*positions, orientation=AXIAL, tags=None, pixels=None, names=("extra.dcm",)):
    """A good series, and further slices."""

    def make(folder):
        write_slices(folder, heights())
        write_slices(folder, positions, orientation, pixels=pixels, names=names, tags=tags)

    return make


def without(*attributes, slices=(5,)):
    """A series in which some slices lack attributes."""

    def make(folder):
        files = write_slices(folder, heights())
        for k in slices:
            for attribute in attributes:
                remove(files[k], *attribute)

    return make


def tagged(tag, text):
    return lambda d: write_slices(d, heights(), tags=lambda k: {tag: text(k)})


UNEVEN = [(-40.0, -30.0, z) for z in [*np.arange(6) * 2.5, *(12.5 + 5 * np.arange(1, 9))]]
SLOPE, INTERCEPT = (0x28, 0x1053), (0x28, 0x1052)
BAD = {
    "a slice twice": (
        beside(heights()[3], pixels=box()[3:4]),
        r"a slice twice.* same pixels: (003|extra).dcm and (003|extra).dcm",
    ),
    "a place twice": (
        beside(heights()[3], pixels=box()[3:4] + 5),
        r"two slices that show different pixels: 003.dcm and extra.dcm",
    ),
    "two time points": (
        lambda d: write_slices(d, heights() * 2, pixels=box(28), tags=lambda k: {"0020|0100": str(k // 14)}),
        r"000.dcm and 014.dcm.* and 11 more; they differ in time point",
    ),
    "2.5 mm, then 5 mm": (lambda d: write_slices(d, UNEVEN), r"not evenly apart.* 2.5 mm to 5 mm"),
    "a slice missing": (
        lambda d: write_slices(d, heights())[5].unlink(),
        r"8 mm apart.*some are missing between 004.dcm and 006",
    ),
    "half of the slices missing from the middle on": (
        lambda d: [file.unlink() for file in write_slices(d, heights())[7::2]],
        r"not evenly apart.*first other one between 006.dcm and 008.dcm",
    ),
    "scattered along the normal": (
        lambda d: write_slices(d, [(-40, -30, p[2]) for p in moved(1.0)]),
        "not evenly apart",
    ),
    "scattered in their plane": (
        lambda d: write_slices(d, [(p[0], p[1], h[2]) for p, h in zip(moved(1.0), heights(), strict=True)]),
        r"mm aside of the line from 000.dcm to 013.dcm",
    ),
    "tilted": (lambda d: write_slices(d, heights(), TIPPED), r"tilted by 17.2 degrees"),
    "tilted by little": (
        lambda d: write_slices(d, heights(), (1, 0, 0, 0, math.cos(0.01), math.sin(0.01))),
        r"tilted by 0.573 degrees",
    ),
    "a localizer": (
        beside((0, 0, 20), orientation=SAGITTAL, tags={"0008|0008": "DERIVED\\PRIMARY\\LOCALIZER"}),
        "extra.dcm is a local",
    ),
    "a slice across": (
        beside((0, 0, 20), orientation=SAGITTAL),
        r"two orientations, 90 degrees apart: 14 like 000.dcm and 1 like",
    ),
    "half turned over": (
        lambda d: write_slices(d, heights(), lambda k: AXIAL if k < 7 else (-1, 0, 0, 0, -1, 0)),
        r"two orientations, 180 degrees apart",
    ),
    "a slice of another size": (
        beside((-40, -30, 56), pixels=np.zeros((1, 20, 22), np.int16)),
        r"extra.dcm has 22 x 20 pixels, and the other slices have 40 x 36",
    ),
    "pixels of another size": (
        lambda d: write_slices(d, heights(), spacing=lambda k: (2.0, 1.5 + (k == 4))),
        r"pixels of two sizes.*004.dcm: 2 x 2.5 mm",
    ),
    "side by side": (lambda d: write_slices(d, [(90.0 * k, 0, 0) for k in range(4)]), r"not evenly apart|aside"),
    "axes not at right angles": (without((0x20, 0x37), slices=range(14)), "orientation .*is missing in 000.dcm, .*11 more"),
    "no position": (without((0x20, 0x32)), "position .* is missing in 005.dcm"),
    "no pixel spacing": (without((0x28, 0x30)), "pixel spacing is missing in 005.dcm"),
    "no rescale": (without(SLOPE, INTERCEPT), "005.dcm has no rescale slope"),
    "no rescale intercept": (without(INTERCEPT, slices=(0, 1)), "000.dcm, 001.dcm have no rescale intercept"),
    "numbers that the reader would cut": (
        lambda d: rescale(write_slices(d, heights())[3], b".5"),
        "003.dcm has numbers of another",
    ),
    "two series": (tagged("0020|000e", lambda k: f"{SERIES_UID}.{k // 10}"), "2 DICOM series, of 10, 4 images .*010.dcm"),
    "two numbers of series": (tagged("0020|0011", lambda k: str(k // 7)), "leave out 007.dcm.* differ in series number"),
    "two days": (tagged("0008|0021", lambda k: f"2020010{1 + k // 7}"), "leave out 007.dcm.* differ in series date"),
    "two thicknesses": (tagged("0018|0050", lambda k: "5.0" if k > 9 else "4.0"), "leave out 010.dcm.* in slice thickness"),
    "two frames of reference": (tagged("0020|0052", lambda k: f"1.2.{k // 9}"), "009.dcm.*frame of reference 1.2.1"),
    "several frames": (lambda d: write_frames(d / "all.dcm", box()), "all.dcm holds 14 frames in one DICOM file"),
    "a damaged slice": (
        lambda d: write_slices(d, heights())[5].write_bytes(bytes(128) + b"DICM" + bytes(999)),
        "005.dcm cannot be read",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_straight_volume_is_refused_with_what_is_wrong(name, tmp_path):
    make, words = BAD[name]
    make(tmp_path / "scan")
    with pytest.raises(ValueError, match="scan") as refused:
        check_input_file(tmp_path / "scan")
    assert re.search(words, str(refused.value)), refused.value


def test_single_dicom_files(tmp_path):
    file = write_slices(tmp_path, stack(OBLIQUE), OBLIQUE)[4]
    check_loaded_place(file, check_input_file(file), LoadImage()(str(file)))
    remove(file, 0x20, 0x32)
    assert check_input_file(file) is None, "a projection or a photograph says nothing of its place"
    write_frames(tmp_path / "all.dcm", box())
    with pytest.raises(ValueError, match="14 frames"):
        check_input_file(tmp_path / "all.dcm")


@pytest.mark.parametrize("wrong", ["shifted", "stretched", "mirrored", "turned", "unknown"])
def test_a_reader_that_puts_a_volume_elsewhere_is_noticed(wrong, tmp_path):
    write_slices(tmp_path, stack(OBLIQUE), OBLIQUE)
    place, volume = check_input_file(tmp_path), READER(str(tmp_path))
    affine = np.array(volume.meta["original_affine"], float)
    if wrong == "shifted":
        affine[:3, 3] += affine[:3, 2] / 5
    elif wrong == "stretched":
        affine[:3, 2] *= 1.02
    elif wrong == "mirrored":
        affine[:3, 0] *= -1
    elif wrong == "turned":
        affine[:3, :3] = np.diag(np.linalg.norm(affine[:3, :3], axis=0))
    volume.meta["original_affine"] = affine
    if wrong == "unknown":
        volume = MetaTensor(torch.zeros(1, 40, 36, 14))
        volume.meta.pop("original_affine", None)
    with pytest.raises(ValueError, match="drops that" if wrong == "unknown" else "beside where its header puts it"):
        check_loaded_place(tmp_path, place, volume)


def test_readers_may_keep_to_dicoms_axes_and_stack_from_the_other_end(tmp_path):
    write_slices(tmp_path, stack(OBLIQUE), OBLIQUE)
    place, volume = check_input_file(tmp_path), READER(str(tmp_path))
    affine = np.array(volume.meta["original_affine"], float)
    affine[:3, 3] += 13 * affine[:3, 2]
    affine[:3, 2] *= -1
    volume.meta["original_affine"] = affine
    check_loaded_place(tmp_path, place, volume)
    check_loaded_place(tmp_path, place, LoadImage(reader="ITKReader", affine_lps_to_ras=False)(str(tmp_path)))


def threshold_bundle(root):
    """The CT bundle at the images' own resolution, with a network whose mask is what is brighter than 40 HU."""
    bundle = load_bundle(small_bundle(root, "abdomen_ct", (*CT, ("pixdim: [3, 3, 3]", "pixdim: [-1, -1, -1]"))))
    bundle.network = nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        bundle.network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1))
        bundle.network.bias.copy_(torch.tensor([0.5, 0.0]))
    return bundle


def test_the_mask_lies_on_the_anatomy_and_a_bad_series_stops_no_other(tmp_path):
    write_slices(tmp_path / "a", stack(OBLIQUE), OBLIQUE)
    write_slices(tmp_path / "b", heights(), TIPPED)
    write_slices(tmp_path / "c", heights())
    bundle = threshold_bundle(tmp_path / "bundle")
    images = [tmp_path / name for name in "abc"]
    outcomes = list(segment(bundle, images, tmp_path / "out", Source()))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True] and "tilted by" in outcomes[1].error
    for outcome, positions, orientation in ((outcomes[0], stack(OBLIQUE), OBLIQUE), (outcomes[2], heights(), AXIAL)):
        mask = nib.load(outcome.masks[0])
        bright = np.argwhere(box() > 0)
        axes = np.array(orientation).reshape(2, 3) * [[2.0], [1.5]]
        truth = np.mean([np.array(positions[z]) + x * axes[0] + y * axes[1] for z, y, x in bright], 0) * [-1, -1, 1]
        found = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)).mean(0)
        np.testing.assert_allclose(found, truth, atol=0.05)
