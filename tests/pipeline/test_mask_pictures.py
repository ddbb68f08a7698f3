"""Pictures of masks show a patient the same way however the file's axes lie."""

from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_tta.pipeline.mask_pictures import BELOW, NOT_KEPT, mask_pictures, pictures_of_entry
from monai_tta.pipeline.recorded_answer import RecordedAnswer
from monai_tta.reporting import slice_pictures
from monai_tta.reporting.case_pictures import FILL, GAP, SIZE, STRIP, with_side
from monai_tta.reporting.slice_pictures import PHOTOGRAPH_SIZE, STRUCTURES, structure_marks


def volume():
    """In RAS: two structures right of and in front of the middle, a bright point at the head side of them."""
    image, mask = np.zeros((24, 26, 20), np.float32), np.zeros((24, 26, 20), np.uint8)
    mask[12:18, 8:14, 6:12], mask[12:18, 14:20, 6:12] = 1, 2
    image[mask > 0], image[12:18, 8:20, 11] = 1, 2
    return image, mask


def write(folder, image, mask, axes="RAS", spacing=(1.0, 1.0, 1.0)):
    folder.mkdir()
    files = []
    for name, values in (("image", image), ("mask", mask)):
        one = nib.Nifti1Image(values, np.diag([*spacing, 1.0]))
        turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
        files.append(folder / f"{name}.nii.gz")
        nib.save(one.as_reoriented(turn), files[-1])
    return files


def _as_args(files):
    return files[0], [files[1]]


def pixels(png):
    return np.asarray(Image.open(BytesIO(png)))[STRIP:]


@pytest.mark.parametrize("axes", ["LPS", "SRA", "PIL"])
def test_a_patient_looks_the_same_whatever_the_files_axes(tmp_path, axes):
    image, mask = volume()
    expected = drawn_of(*_as_args(write(tmp_path / "ras", image, mask)))
    found = drawn_of(*_as_args(write(tmp_path / axes, image, mask, axes)))
    assert [caption for caption, _ in expected] == ["axial", "coronal", "sagittal"] and found == expected


def drawn_of(*words, **more):
    """Captions and PNGs alone."""
    return list(mask_pictures(*words, **more).slices)


def first_panel(png, wide, high):
    """The image's panel of a picture that shows so many voxels."""
    return pixels(png)[:, : round(SIZE * wide / max(wide, high)), 0].astype(float)


@pytest.mark.parametrize(
    ("axis", "plane", "brighter"), [(0, "axial", "left"), (1, "axial", "up"), (2, "coronal", "up"), (1, "sagittal", "left")]
)
def test_right_and_front_are_left_head_is_up(tmp_path, axis, plane, brighter):
    """What is bright in the file's right, front or head half."""
    mask = np.zeros((24, 24, 24), np.uint8)
    mask[8:16, 8:16, 8:16] = 1
    image = np.broadcast_to(np.arange(24.0)[tuple(slice(None) if k == axis else None for k in range(3))], mask.shape)
    drawn = dict(drawn_of(*_as_args(write(tmp_path / "a", image.astype(np.float32), mask))))
    panel = first_panel(drawn[plane], 12, 12)
    half = SIZE // 2
    first, second = (panel[:half], panel[half:]) if brighter == "up" else (panel[:, :half], panel[:, half:])
    assert first.mean() > second.mean() + 50


def test_structures_have_their_colours_and_voxels_their_aspect(tmp_path):
    image, mask = volume()
    drawn = dict(drawn_of(*_as_args(write(tmp_path / "a", image, mask, spacing=(1.0, 1.0, 4.0)))))
    colours = {tuple(colour) for colour in pixels(drawn["axial"]).reshape(-1, 3)}
    assert {STRUCTURES[0], STRUCTURES[1]} <= colours and STRUCTURES[2] not in colours
    height, width = pixels(drawn["coronal"]).shape[:2]
    assert height == SIZE and width < 2 * SIZE, "slices four times as far apart make a high picture"


def test_an_empty_mask_shows_the_whole_image(tmp_path):
    image, mask = volume()
    drawn = drawn_of(*_as_args(write(tmp_path / "a", image, 0 * mask)))
    assert len(drawn) == 3 and pixels(drawn[0][1]).shape[0] == SIZE


def test_a_photograph_is_drawn_as_it_is_shown(tmp_path):
    shown = np.zeros((30, 50, 3), np.uint8)
    shown[5:15, 10:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.fromarray(np.rot90(shown)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray((255 * (shown[..., 0] > 0)).astype(np.uint8)).save(tmp_path / "m.png")
    made = mask_pictures(tmp_path / "a.png", [tmp_path / "m.png"])
    ((caption, png),) = made.slices
    left, right = panels(png, 2)
    assert caption == "photograph" and left.mean() > 60 and max(left.shape[:2]) == PHOTOGRAPH_SIZE
    outline = (right == made.marks[0].colour).all(-1)
    assert outline.any() and made.marks[0].colour == STRUCTURES[1] and not (right == STRUCTURES[0]).all(-1).any(), "no orange"


@pytest.mark.parametrize("lost", ["mask", "map"])
def test_what_lies_on_another_grid_is_not_drawn(tmp_path, lost):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    _, other = write(tmp_path / "b", image[:-2], mask[:-2])
    with pytest.raises(ValueError, match="grid" if lost == "mask" else "map of uncertainty is"):
        drawn_of(file, [other]) if lost == "mask" else drawn_of(file, [found], uncertainty_map=other)


def test_several_masks_are_several_structures_and_labels_say_which_values_count(tmp_path):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    _, one = write(tmp_path / "b", image, (mask == 1).astype(np.uint8))
    _, two = write(tmp_path / "c", image, (mask == 2).astype(np.uint8))
    assert drawn_of(file, [one, two]) == drawn_of(file, [found])
    inverted = write(tmp_path / "d", image, np.choose(mask, [255, 0, 128]).astype(np.uint8))[1]
    labels = [{"name": "cup", "value": 0}, {"name": "rim", "value": 128}]
    assert drawn_of(file, [inverted], labels) == drawn_of(file, [found]), "255 is the background here"


def test_a_structure_on_both_sides_is_not_cut_between_them(tmp_path):
    image, mask = volume()
    mask[:] = 0
    mask[2:6, 8:14, 6:12] = mask[16:22, 8:14, 6:12] = 1
    drawn = dict(drawn_of(*_as_args(write(tmp_path / "a", image, mask))))
    assert (pixels(drawn["sagittal"]) == STRUCTURES[0]).all(-1).any()


def test_the_map_of_uncertainty_lies_beside_at_the_same_place(tmp_path):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask, axes="LPS")
    _, uncertain = write(tmp_path / "b", image, np.where(mask > 0, 0.5, 0.0).astype(np.float32), axes="LPS")
    without = dict(drawn_of(file, [found]))
    drawn = dict(drawn_of(file, [found], uncertainty_map=uncertain, largest=1.0))
    for plane, png in drawn.items():
        whole, before = pixels(png).astype(int), pixels(without[plane])
        width = (before.shape[1] - 6) // 2
        assert (whole[:, : before.shape[1]] == before).all()
        map_of = whole[:, -width:]
        assert (map_of[..., 0] == map_of[..., 1]).all() and abs(map_of.max() - 127) <= 1, plane
        outlines = [(whole[:, width + 6 : 2 * width + 6] == colour).all(-1) for colour in STRUCTURES[:2]]
        assert map_of[outlines[0] | outlines[1]].mean() > 60 > map_of[:5].mean(), "it is bright inside the structures alone"


def test_the_legend_names_each_structure_by_colour_and_letter(tmp_path):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    labels = [{"name": "head", "value": 1}, {"name": None, "value": 2}]
    marks = mask_pictures(file, [found], labels).marks
    assert [(mark.letter, mark.colour, mark.name) for mark in marks] == [
        ("a", STRUCTURES[0], "head"),
        ("b", STRUCTURES[1], "structure 2"),
    ]
    assert marks[0].css == "#e69f00"
    many = [{"name": f"organ {value}", "value": value} for value in range(1, 20)]
    assert [mark.name for mark in mask_pictures(file, [found], many).marks] == ["what was found"], "drawn as one"
    assert len(structure_marks(["x"] * 30)) == 30


def test_the_letter_of_a_structure_stands_beside_its_outline(tmp_path):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    panel = dict(drawn_of(file, [found], title="mask"))["axial"]
    both = pixels(panel)
    left, right = both[:, : (both.shape[1] - GAP) // 2], both[:, (both.shape[1] + GAP) // 2 :]
    for colour in STRUCTURES[:2]:
        assert not (left == colour).all(-1).any(), "the image alone has neither outlines nor letters"
        place = (right == colour).all(-1)
        outline = place.sum(1).argmax()  # the row of the topmost edge
        assert place[max(0, outline - 22) : outline - 3].any(), "the letter is above it"


def test_the_side_of_the_patient_is_written(tmp_path, monkeypatch):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    with_marks = drawn_of(file, [found])
    monkeypatch.setattr(slice_pictures, "with_side", lambda panel, left: panel)
    assert all(one != other for one, other in zip(with_marks, drawn_of(file, [found]), strict=True))


def test_values_are_drawn_from_one_end_of_the_bundles_range_to_the_other(tmp_path):
    image, mask = volume()
    hounsfield = np.full(image.shape, -1000.0, np.float32)
    hounsfield[mask > 0] = 40
    file, found = write(tmp_path / "a", hounsfield, mask)
    shown = mask_pictures(file, [found], ends=(-160.0, 240.0))
    panel = first_panel(dict(shown.slices)["axial"], 9, 18)
    assert abs(panel[SIZE // 2, panel.shape[1] // 2] - 127) <= 2 and panel[0].max() == 0
    assert "Black is -160 or less, white 240 or more" in shown.notes[0] and not mask_pictures(file, [found]).notes
    Image.fromarray(np.full((24, 26, 3), 200, np.uint8)).save(tmp_path / "p.png")
    Image.fromarray(np.ones((24, 26), np.uint8)).save(tmp_path / "m.png")
    words = tmp_path / "p.png", [tmp_path / "m.png"]
    assert drawn_of(*words, ends=(0.0, 1.0)) == drawn_of(*words), "a photograph is drawn as it is shown"


@pytest.mark.parametrize(("status", "preview"), [("adapted", True), ("adapted", False), ("unadapted", False)])
def test_where_the_unadapted_outline_is_is_said(tmp_path, status, preview):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    (tmp_path / "a" / "p.png").write_bytes(b"png")
    entry = {"status": status, "masks": [found.name], "labels": [], "preview": "p.png" if preview else None}
    pictures = pictures_of_entry(file, entry, found.parent)
    assert pictures.notes == ([] if status == "unadapted" else [BELOW if preview else NOT_KEPT])
    assert pictures.preview == (b"png" if preview else None) and pictures.largest is None
    assert pictures.slices == drawn_of(file, [found], title=f"{status} mask") != drawn_of(file, [found])


def two_answers(tmp_path, ours, before):
    """The file of an image and of an answer, and an unadapted answer to it."""
    image, mask = volume()
    file, found = write(tmp_path / "a", image, ours(mask).astype(np.uint8))
    _, other = write(tmp_path / "b", image, before(mask).astype(np.uint8))
    return file, [found], RecordedAnswer([other], [])


LABELS = [{"name": "head", "value": 1}, {"name": "tail", "value": 2}]


def panels(png, count):
    whole = pixels(png)
    wide = (whole.shape[1] + GAP) // count
    return [whole[:, number * wide : (number + 1) * wide - GAP].astype(int) for number in range(count)]


def test_the_unadapted_answer_has_a_panel_and_what_one_alone_holds_is_filled(tmp_path):
    file, masks, unadapted = two_answers(tmp_path, lambda mask: mask * (mask == 1), lambda mask: mask)
    made = mask_pictures(file, masks, LABELS, title="adapted mask", unadapted=unadapted)
    assert made.has_unadapted and [mark.name for mark in made.marks] == ["head", "tail"]
    plain, before, ours = panels(dict(made.slices)["axial"], 3)
    head, tail = (lambda panel, colour=colour: (panel == colour).all(-1) for colour in STRUCTURES[:2])
    assert head(before).any() and head(ours).any() and tail(before).any() and not tail(ours).any()
    assert not head(plain).any() and not tail(plain).any()
    changed = (before != ours).any(-1) & ~tail(before)
    share = 1 - (before[changed] - ours[changed]) / np.where(ours[changed] == STRUCTURES[1], 1, STRUCTURES[1] - ours[changed])
    assert changed.sum() > 2000 and abs(np.median(share) - (1 - FILL)) < 0.02, "the tail is filled, and the image shines through"
    inside = (ours != plain).any(-1) & ~head(ours)
    assert not inside[head(ours).argmax(0).max() + 4 :, :].all(), "the head is in both and is not filled"


def test_two_answers_that_agree_are_not_filled(tmp_path):
    file, masks, unadapted = two_answers(tmp_path, lambda mask: mask, lambda mask: mask)
    for _, png in mask_pictures(file, masks, LABELS, unadapted=unadapted).slices:
        _, before, ours = panels(png, 3)
        assert (before == ours).all()


def test_what_the_unadapted_answer_alone_found_is_shown(tmp_path):
    file, masks, unadapted = two_answers(tmp_path, lambda mask: 0 * mask, lambda mask: mask)
    made = mask_pictures(file, masks, LABELS, unadapted=unadapted)
    for caption, png in made.slices:
        _, before, ours = panels(png, 3)
        assert any((before == colour).all(-1).any() for colour in STRUCTURES[:2]) and (before != ours).any(), caption


def test_answers_whose_structures_nobody_knows_are_one_structure(tmp_path):
    file, masks, unadapted = two_answers(tmp_path, lambda mask: mask * (mask == 1), lambda mask: mask)
    made = mask_pictures(file, masks, unadapted=unadapted)
    assert [mark.name for mark in made.marks] == ["what was found"]
    assert (pixels(dict(made.slices)["axial"]) != STRUCTURES[1]).any(-1).all()


def test_where_the_unadapted_answer_is_not_to_be_had_the_page_says_why(tmp_path):
    image, mask = volume()
    file, found = write(tmp_path / "a", image, mask)
    entry = {"status": "adapted", "masks": [found.name], "labels": [], "preview": None}
    made = pictures_of_entry(file, entry, found.parent, unadapted="It is lost.")
    assert made.notes == ["It is lost."] and not made.has_unadapted
    assert pictures_of_entry(file, entry, found.parent, unadapted=RecordedAnswer([found], [])).notes == []


def test_the_side_is_written_whole_on_a_panel_that_is_as_low_as_a_letter():
    low, high = (np.asarray(with_side(Image.new("RGB", (300, height), "grey"), "R")) for height in (24, 300))
    ink = [(panel == 255).all(-1) for panel in (low, high)]
    assert ink[0].sum() == ink[1].sum() > 20 and abs(np.flatnonzero(ink[1].any(1)).mean() - 150) < 4
