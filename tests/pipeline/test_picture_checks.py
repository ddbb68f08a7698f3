"""What a bundle's reader is given, what its network may see, and where the mask of a turned photograph lies."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    NormalizeIntensity,
    NormalizeIntensityd,
    ScaleIntensityRange,
    ScaleIntensityRanged,
)
from PIL import Image, ImageOps

from monai_tta import Source
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.picture_checks import readable_picture
from monai_tta.pipeline.segment import segment
from monai_tta.pipeline.value_range import ExpectedRange, check_values, expected_range, scaled_range

VESSEL = BUNDLE.parent / "vessel_fundus"
BRIGHT = (slice(20, 60), slice(40, 90))


@pytest.fixture
def bright(tmp_path):
    """The vessel bundle with a network that marks what is brighter than a half."""
    root = tmp_path / "bundle"
    (root / "models").mkdir(parents=True)
    shutil.copytree(VESSEL / "configs", root / "configs")
    config = root / "configs" / "inference.yaml"
    text = config.read_text(encoding="utf-8")
    start, end = text.index("network_def:"), text.index("network:")
    layer = "network_def: {_target_: torch.nn.Conv2d, in_channels: 3, out_channels: 1, kernel_size: 1}\n"
    config.write_text(text[:start] + layer + text[end:], encoding="utf-8")
    weights = {"weight": torch.full((1, 3, 1, 1), 30.0), "bias": torch.tensor([-45.0])}
    torch.save(weights, root / "models" / "model.pt")
    return load_bundle(root)


def photograph(orientation=1):
    """A picture with a bright block, laid so that its EXIF orientation brings it upright."""
    values = np.full((90, 130, 3), 30, np.uint8)
    values[BRIGHT] = 220
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = {1: lambda p: p, 3: lambda p: p.rotate(180), 6: lambda p: p.rotate(90, expand=True), 2: ImageOps.mirror}
    return lying[orientation](Image.fromarray(values)), exif


def test_the_mask_lies_like_the_photograph_is_shown_whatever_its_file_is(bright, tmp_path):
    """One photograph in many files: all masks are that of the first one. Those with a turn say so."""
    folder = tmp_path / "in"
    folder.mkdir()
    picture, _ = photograph()
    picture.save(folder / "plain.png")
    for orientation in (2, 3, 6):
        turned, exif = photograph(orientation)
        turned.save(folder / f"turned{orientation}.jpg", quality=98, exif=exif)
        turned.save(folder / f"turned{orientation}.tif", exif=exif)
    picture.convert("RGBA").save(folder / "opaque.png")
    picture.quantize(8).save(folder / "palette.png")
    picture.convert("L").save(folder / "grey.png")
    images = sorted(folder.iterdir())
    done = list(segment(bright, images, tmp_path / "out", Source()))
    assert [outcome.error for outcome in done] == [None] * len(images)
    for outcome in done:
        with Image.open(outcome.masks[0]) as mask:
            assert orientation_free(mask) and mask.size == picture.size
            marked = np.asarray(mask) > 0
        assert marked[BRIGHT].all() and marked.sum() == 40 * 50, outcome.name
        turned = outcome.image.name.startswith("turned")
        assert any("EXIF orientation" in note for note in outcome.notes) == turned
        assert any("grey" in note for note in outcome.notes) == (outcome.image.name == "grey.png")
    names = {outcome.masks[0].name for outcome in done}
    assert {"plain_seg.png", "turned6_jpg_seg.png", "turned6_tif_seg.png"} <= names and len(names) == len(images)


def orientation_free(mask):
    return 0x0112 not in mask.getexif()


def test_a_reader_gets_a_plain_picture_itself_and_of_others_a_copy(tmp_path):
    picture, exif = photograph(6)
    picture.save(tmp_path / "a.png", exif=exif)
    ImageOps.exif_transpose(picture).save(tmp_path / "b.png")
    with readable_picture(tmp_path / "b.png", 3, 255) as given:
        assert given.path == tmp_path / "b.png" and given.is_picture and not given.notes
    with readable_picture(tmp_path / "a.png", 3, 255) as given:
        copy = given.path
        assert np.asarray(Image.open(copy)).shape == (90, 130, 3)
    assert not copy.exists()
    (tmp_path / "c.nii").write_bytes(b"x")
    with readable_picture(tmp_path / "c.nii") as given:
        assert given.path.name == "c.nii" and not given.is_picture


def test_deep_values_are_left_to_a_bundle_that_expects_them(tmp_path):
    deep = np.linspace(0, 65535, 6000).reshape(60, 100).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    with readable_picture(tmp_path / "x.png", 1, 65535) as given:
        assert given.path.name == "x.png"
    with readable_picture(tmp_path / "x.png", 1, 255) as given:
        np.testing.assert_array_equal(np.asarray(Image.open(given.path)), np.round(deep / 257))
    with pytest.raises(ValueError, match=r"x\.png holds deep grey"), readable_picture(tmp_path / "x.png", 3, 255):
        pass
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(deep).save(tmp_path / "y.png", exif=exif)
    with pytest.raises(ValueError, match="must be turned"), readable_picture(tmp_path / "y.png", 1, 65535):
        pass


def test_a_picture_is_checked_before_it_is_read(tmp_path):
    picture, _ = photograph()
    picture.putalpha(100)
    picture.save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png is transparent in places"):
        check_input_file(tmp_path / "x.png")
    picture.convert("RGB").save(tmp_path / "y.tif", save_all=True, append_images=[picture.convert("RGB").rotate(90)])
    with pytest.raises(ValueError, match=r"y\.tif holds 2 pages"):
        check_input_file(tmp_path / "y.tif")


CT = Compose([ScaleIntensityRanged("image", -160, 240, 0, 1, clip=True), EnsureTyped("image")])
EIGHT = Compose([ScaleIntensityRange(0, 255, 0, 1)])


def test_what_a_bundle_expects_is_read_from_its_last_step_on_intensities():
    found = expected_range(None, CT)
    assert (found.raw, found.scaled, found.clips, found.highest) == ((-160, 240), (0, 1), True, 240)
    assert expected_range(None, Compose([*EIGHT.transforms, NormalizeIntensity()])).raw is None
    assert expected_range(None, None, torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))).channels == 3
    bundle = load_bundle(VESSEL)
    found = expected_range(bundle.parser, None)
    assert found.channels == 3 and found.declared == (0, 1)


@pytest.mark.parametrize(
    ("preprocessing", "low", "high", "words"),
    [
        (CT, 400, 3000, "all its values are 240 or above"),
        (CT, -3000, -1000, "all its values are -160 or below"),
        (CT, 0, 1, "its values lie between 0 to 1"),
        (EIGHT, 0, 1, "it is scaled otherwise"),
        (EIGHT, 0, 65535, "it has another depth"),
        (CT, -1000, 3000, None),
        (CT, -100, -100, None),
        (EIGHT, 0, 0, None),
        (EIGHT, 0, 255, None),
        (EIGHT, 3, 40, None),
    ],
)
def test_values_of_another_range_are_refused(preprocessing, low, high, words):
    raw = torch.linspace(low, high, 64).reshape(1, 8, 8)
    step = preprocessing.transforms[0]
    image = getattr(step, "scaler", step)(raw)
    expected = expected_range(None, preprocessing)
    if words is None:
        check_values(image, expected, is_picture=True)
    else:
        with pytest.raises(ValueError, match=words):
            check_values(image, expected, is_picture=True)


def test_values_far_from_what_the_metadata_declare_are_refused_for_pictures_alone():
    expected = ExpectedRange(3, declared=(0, 1))
    for high, is_picture in ((255, False), (9, True)):
        check_values(torch.linspace(0, high, 9), expected, is_picture)
    with pytest.raises(ValueError, match="values from 0 to 255 reach the network, which expects 0 to 1"):
        check_values(torch.linspace(0, 255, 9), expected, True)


@pytest.mark.parametrize(
    ("last", "ends"),
    [(ScaleIntensityRanged("image", -160, 240, 0, 1, clip=True), (-160.0, 240.0)), (NormalizeIntensityd("image"), None)],
)
def test_pictures_know_the_range_that_a_bundle_scales(last, ends):
    bundle = SimpleNamespace(transforms=lambda folder: (Compose([last]), None))
    assert scaled_range(bundle) == ends
