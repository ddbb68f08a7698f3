"""Previews of nnU-Net model folders: the anatomy as it lies in the patient, both answers on it; skipped without nnunetv2."""

import json
import re
from base64 import b64decode

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from typer.testing import CliRunner

from monai_tta import Adam, Source, Tent
from monai_tta.cli.app import app
from monai_tta.pipeline import preview
from monai_tta.pipeline.bundle import load_bundle
from monai_tta.pipeline.check_input import CheckedInput
from monai_tta.pipeline.mask_pictures import mask_pictures
from monai_tta.pipeline.nnunet_cases import case_files
from monai_tta.pipeline.preview import PreviewText
from monai_tta.pipeline.recorded_answer import RecordedAnswer
from monai_tta.pipeline.segment import segment
from monai_tta.quality.corrections import Reorder, ScaledSpacing
from tests.attack.arena import small_bundle
from tests.pipeline.test_nnunet_folder import KINDS
from tests.tiny_nnunet import REGIONS, answer_brightness, model_folder, write_anatomy

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed: pip install 'monai-tta[nnunet]'")

VOLUMES = [kind for kind in KINDS if kind != "colours"]
CUT_ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}
FAST = ("--method", "tent", "--choose", "optimizer.lr=1")  # so fast that the answers differ


def tta(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, besides the picture itself: panels and words of each, in their order."""
    found = []
    real = preview.draw_preview

    def note(panels, title, words):
        found.append((panels, title, words))
        return real(panels, title, words)

    monkeypatch.setattr(preview, "draw_preview", note)
    return found


def towards_right_front_and_head(file):
    """Voxels ``(x, y, z)`` and their sizes, turned by ITK, which has no part in the pictures."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(file)), "RAS")
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), image.GetSpacing()


def looked_at(volume, across, place):
    """The right and the front on the left side, front and head up."""
    return volume.take(place, axis=across)[::-1, ::-1].T


def place_of(panel, volume):
    """Where a panel cuts an image, which has noise, so that no two slices are alike; and across which axis."""
    across = CUT_ACROSS[panel.caption]
    (place,) = [k for k in range(volume.shape[across]) if np.array_equal(looked_at(volume, across, k), panel.image)]
    return across, place


def check_volume(panels, image, adapted, unadapted):
    """Check three panels against the files of the image and of both masks."""
    voxels, spacing = towards_right_front_and_head(image)
    after, before = (towards_right_front_and_head(mask)[0] for mask in (adapted, unadapted))
    assert [panel.caption for panel in panels] == ["axial", "coronal", "sagittal"]
    for panel in panels:
        across, place = place_of(panel, voxels)
        aside, up = (size for axis, size in enumerate(spacing) if axis != across)
        assert panel.pixel == pytest.approx((up, aside)) and panel.left == ("A" if across == 0 else "R")
        for value in (1, 2):
            assert np.array_equal(panel.adapted[value - 1], looked_at(after, across, place) == value)
            assert np.array_equal(panel.unadapted[value - 1], looked_at(before, across, place) == value)
        bright, ours = looked_at(voxels, across, place) > 150, panel.unadapted.any(0)
        assert bright.any() and 2 * (bright & ours).sum() > 0.75 * (bright.sum() + ours.sum()), "the mask lies on the anatomy"


def made(tmp_path, how):
    """A model folder whose networks answer brightness, and the files of a case."""
    folder = answer_brightness(model_folder(tmp_path / "model", **how))
    return folder, write_anatomy(tmp_path / "in", "case", len(how.get("channels", (1,))), how.get("ending", ".nii.gz"))


def entry_of(out):
    (entry,) = json.loads((out / "records.json").read_text("utf-8"))["cases"]
    return entry


@pytest.mark.parametrize("kind", VOLUMES)
def test_three_planes_show_the_anatomy_with_both_answers(kind, tmp_path, drawn):
    how = KINDS[kind]
    folder, files = made(tmp_path, how)
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "plain", "--method", "source")
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", *FAST, "--preview")
    entry = entry_of(tmp_path / "out")
    assert entry["status"] == "adapted" and entry["preview"] == "case_seg_preview.png"
    with Image.open(tmp_path / "out" / entry["preview"]) as picture:
        assert picture.width > 300
    mask, plain = (next((tmp_path / out).glob(f"case_seg{how.get('ending', '.nii.gz')}")) for out in ("out", "plain"))
    assert mask.read_bytes() != plain.read_bytes()
    ((panels, title, words),) = drawn
    check_volume(panels, files[0], mask, plain)
    channels = "; the first of 2 channels is shown" if len(files) > 1 else ""
    assert title == "case_seg" and words.removeprefix("nothing found; ") == entry["in_words"] + channels


def test_a_photograph_is_shown_whole_in_its_colours(tmp_path, drawn):
    folder, (file,) = made(tmp_path, KINDS["colours"])
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "plain", "--method", "source", "--preview")
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", *FAST, "--preview")
    mask, plain = (np.asarray(Image.open(tmp_path / out / "case_seg.png")) for out in ("out", "plain"))
    ((alone,), _, _), ((both,), _, words) = drawn
    for panel in (alone, both):
        assert panel.caption == "photograph" and np.array_equal(panel.image, np.asarray(Image.open(file)))
        assert np.array_equal(panel.unadapted, [plain == 1, plain == 2])
    assert alone.adapted is None and np.array_equal(both.adapted, [mask == 1, mask == 2]) and not np.array_equal(mask, plain)
    assert words == "adapted on 1 window"


def test_photographs_of_one_channel_each_say_that_the_first_is_shown(tmp_path, drawn):
    how = KINDS["colours"] | {"channels": ("green", "infrared")}
    folder = answer_brightness(model_folder(tmp_path / "model", **how))
    (file,) = write_anatomy(tmp_path / "made", "case", 3, ".png")
    (tmp_path / "in").mkdir()
    for channel in (0, 1):
        with Image.open(file) as picture:
            picture.getchannel(2 * channel).save(tmp_path / "in" / f"case_{channel:04d}.png")
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", "--method", "source", "--preview")
    (((panel,), _, words),) = drawn
    assert words.endswith("; the first of 2 channels is shown") and not entry_of(tmp_path / "out")["notes"]
    assert np.array_equal(panel.image[..., 0], np.asarray(Image.open(tmp_path / "in" / "case_0000.png")))


def test_a_bundle_of_monais_shows_the_same_image_the_same_way(tmp_path, drawn):
    folder, (file,) = made(tmp_path, {"labels": REGIONS})
    for number, network in enumerate((folder, small_bundle(tmp_path / "bundle"))):
        words = ("--method", "source", "--no-check", "--device", "cpu", "--preview")
        tta("run", network, tmp_path / "in", "--out", tmp_path / f"out{number}", *words)
    (ours, _, _), (others, _, _) = drawn
    voxels, _ = towards_right_front_and_head(file)
    for one, other in zip(ours, others, strict=True):
        assert (one.caption, one.left) == (other.caption, other.left) and one.pixel == pytest.approx(other.pixel)
        assert place_of(one, voxels)[0] == place_of(other, voxels)[0]


@pytest.mark.parametrize(
    "correction", [Reorder("", (2, 0, 1), (1,)), ScaledSpacing("", "spacing", (0.5, 1.0, 0.5))], ids=["axes", "spacing"]
)
def test_a_corrected_case_is_shown_as_given(correction, tmp_path, drawn):
    folder, files = made(tmp_path, {"folds": (0, 1)})
    source, masks = load_bundle(folder), []
    for method in (Source(), Tent(optimizer=Adam(lr=1.0))):
        with case_files(source.plan.cases, files) as images:
            checked = {images[0]: CheckedInput(images[0], correction=correction)}
            out = tmp_path / type(method).__name__
            (outcome,) = segment(source, images, out, method, checked=checked, preview=PreviewText())
        assert outcome.error is None and outcome.beside.preview is not None, (outcome.error, outcome.notes)
        masks += outcome.masks
    assert masks[0].read_bytes() != masks[1].read_bytes()
    check_volume(drawn[1][0], files[0], masks[1], masks[0])


@pytest.mark.parametrize("kind", ["two folds", "two channels"])
def test_show_and_replay_answer_again(kind, tmp_path):
    folder, files = made(tmp_path, KINDS[kind])
    out, picture = tmp_path / "out", tmp_path / "again.png"
    tta("run", folder, tmp_path / "in", "--out", out, *FAST, "--preview")
    tta("show", out, "case", "--image", tmp_path / "in", "--out", picture, "--bundle", folder)
    assert picture.read_bytes() == (out / "case_seg_preview.png").read_bytes()
    assert "the same: all" in tta("replay", out, "case", folder, tmp_path / "in")
    said = tta("show", out, "case", "--image", files[0], "--out", picture)
    assert picture.read_bytes() != (out / "case_seg_preview.png").read_bytes()
    assert "is it the case's own" not in said and "no unadapted outline" in said


@pytest.mark.parametrize("kind", VOLUMES)
def test_the_page_of_a_run_shows_both_answers(kind, tmp_path):
    folder, files = made(tmp_path, KINDS[kind])
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "plain", "--method", "source")
    tta("run", folder, tmp_path / "in", "--out", tmp_path / "out", *FAST)
    tta("report", tmp_path / "out", "--pictures", tmp_path / "in", "--bundle", folder)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<img alt="case: ([^"]*)" src="data:image/png;base64,([^"]*)"', page)
    ours, plain = (entry_of(tmp_path / out) for out in ("out", "plain"))
    masks, before = ([tmp_path / out / mask for mask in entry["masks"]] for out, entry in (("out", ours), ("plain", plain)))
    unadapted = RecordedAnswer(before, plain["labels"])
    expected = mask_pictures(files[0], masks, ours["labels"], title="adapted mask", unadapted=unadapted).slices
    assert [(alt, b64decode(png)) for alt, png in found] == [
        (f"{caption}: image, unadapted mask, adapted mask", png) for caption, png in expected
    ]
