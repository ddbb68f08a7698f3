"""A picture comes to a network as a person sees it, whatever its file's depth, palette, alpha and orientation, or not at all."""

import io

import numpy as np
import pytest
from monai.transforms import LoadImage
from PIL import Image, ImageOps

from monai_tta.transforms.fundus import fundus_preprocessing
from monai_tta.transforms.mask_names import whole_folder_name, with_own_masks
from monai_tta.transforms.pictures import as_shown, colours_as_shown, is_plain, orientation_of

RAMP = np.tile(np.linspace(10, 250, 60), (40, 1)).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)
GREY = Image.fromarray(RAMP)


def saved(picture, form="PNG", **options):
    """The picture, written and opened again."""
    file = io.BytesIO()
    picture.save(file, format=form, **options)
    file.seek(0)
    return Image.open(file)


def deep(kind, factor):
    return Image.fromarray((RAMP.astype(float) * factor).astype(kind))


SAME = {
    "8 bits": lambda: saved(GREY),
    "16 bits": lambda: saved(deep(np.uint16, 257)),
    "16 bits in TIFF": lambda: saved(deep(np.uint16, 257), "TIFF"),
    "16 bits, most significant first": lambda: saved(deep(">u2", 257), "TIFF"),
    "16 bits in PGM": lambda: saved(deep(np.int32, 257), "PPM"),
    "opaque alpha": lambda: saved(Image.merge("LA", [GREY, Image.new("L", GREY.size, 255)])),
    "a colour key that nothing has": lambda: saved(GREY, transparency=3),
}


@pytest.mark.parametrize("name", SAME)
def test_grey_of_any_depth_is_the_same_picture(name):
    shown = as_shown(SAME[name]())
    assert shown.mode == "L"
    np.testing.assert_array_equal(np.asarray(shown), RAMP)


def test_colours_with_a_palette_or_opaque_alpha_are_the_same_picture():
    colours = Image.fromarray(COLOURS)
    few = colours.quantize(16)
    np.testing.assert_array_equal(np.asarray(as_shown(saved(few))), np.asarray(few.convert("RGB")))
    for picture in (colours, colours.convert("RGBA")):
        np.testing.assert_array_equal(np.asarray(as_shown(saved(picture))), COLOURS)


REFUSED = {
    "transparent in places": lambda: saved(Image.merge("LA", [GREY, GREY])),
    "transparent in  a colour of 8 bits": lambda: saved(GREY, transparency=10),
    "transparent in  a colour of 16 bits": lambda: saved(deep(np.uint16, 257), transparency=2570),
    "transparent in  a colour of a palette": lambda: saved(GREY.convert("P"), transparency=int(RAMP[0, 0])),
    "kind CMYK": lambda: saved(GREY.convert("CMYK"), "JPEG"),
    "kind LAB": lambda: saved(Image.merge("LAB", [GREY] * 3), "TIFF"),
    "2 pages": lambda: saved(GREY, "TIFF", save_all=True, append_images=[ImageOps.mirror(GREY)]),
    "2 pages or frames": lambda: saved(GREY, "GIF", save_all=True, append_images=[ImageOps.mirror(GREY)]),
    "2 pages or  frames of PNG": lambda: saved(GREY, "PNG", save_all=True, append_images=[ImageOps.mirror(GREY)]),
    "32-bit": lambda: saved(deep(np.int32, 1), "TIFF"),
    "floating-point": lambda: saved(deep(np.float32, 1 / 255), "TIFF"),
    "of which the highest is 6.3%": lambda: saved(deep(np.uint16, 16)),
    "of which the highest is 0.0%": lambda: saved(deep(np.uint16, 0.4)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_say_how_it_looks_is_refused(words):
    picture = REFUSED[words]()
    assert not is_plain(picture)
    with pytest.raises(ValueError, match=words.split("  ")[0]):
        as_shown(picture)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_turned_as_viewers_turn_it(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = Image.fromarray(COLOURS)
    opened, viewed = (saved(photograph, form, exif=exif) for _ in range(2))
    assert orientation_of(opened) == orientation and is_plain(opened) == (orientation == 1)
    np.testing.assert_array_equal(np.asarray(as_shown(opened)), np.asarray(ImageOps.exif_transpose(viewed)))


def test_a_network_of_colours_gets_three_channels_and_no_deep_grey():
    assert np.asarray(colours_as_shown(saved(GREY))).shape == (40, 60, 3)
    with pytest.raises(ValueError, match="deep grey values"):
        colours_as_shown(saved(deep(np.uint16, 257)))


def test_the_benchmarks_preprocessing_sees_a_photograph_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(COLOURS).rotate(-90, expand=True).save(tmp_path / "upright.png")
    read = fundus_preprocessing(size=(60, 40))
    turned, upright = (read({"image": str(tmp_path / f"{name}.png")})["image"] for name in ("turned", "upright"))
    np.testing.assert_array_equal(turned.numpy(), upright.numpy())
    assert LoadImage(reader="PILReader", image_only=True)(str(tmp_path / "turned.png")).shape[:2] == (60, 40)


def test_a_bundle_by_itself_cuts_no_folder_and_shares_no_mask(tmp_path):
    folder = tmp_path / "1.2.840.11"
    folder.mkdir()
    assert whole_folder_name({"filename_or_obj": str(folder)}, None)["subject"].endswith("1.2.840.11.nii.gz")
    assert whole_folder_name({"filename_or_obj": "x/a.b.nii"}, None) == {"subject": "x/a.b.nii", "idx": None}
    cases = [{"image": str(folder)}, {"image": "a.png"}, {"image": str(tmp_path / "1.2.840.12.nii.gz")}]
    assert with_own_masks(cases) == cases
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png would have one name"):
        with_own_masks([*cases, {"image": "a.jpg"}])
