"""A preview tells the two answers apart, for colour-blind readers, too, and says what it shows."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from monai_tta.reporting.case_pictures import ADAPTED, GAP, SIZE, STRIP, UNADAPTED
from monai_tta.reporting.preview_picture import PHOTOGRAPH_SIZE, PreviewPanel, draw_preview

# Machado, Oliveira and Fernandes 2009, severity 1, of linear RGB
SEEN_AS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, matrix):
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    share = np.array(colour) / 255
    linear = np.clip(np.array(matrix) @ np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", SEEN_AS)
def test_colour_blind_readers_tell_the_two_colours_apart(kind):
    assert np.linalg.norm(lab(UNADAPTED, SEEN_AS[kind]) - lab(ADAPTED, SEEN_AS[kind])) > 20


def panel(unadapted=True, adapted=True, photograph=False, **more):
    image = np.random.default_rng(0).normal(100, 9, (40, 50, 3) if photograph else (40, 50))
    before, after = np.zeros((2, 1, 40, 50), bool)
    before[0, 10:20, 10:20], after[0, 10:20, 14:30] = True, True
    return PreviewPanel("axial", image, before if unadapted else None, after if adapted else None, **more)


def drawn(panels, title="a_seg.nii.gz", words="adapted on 1 window"):
    return np.asarray(Image.open(BytesIO(draw_preview(panels, title, words))).convert("RGB")).astype(int)


def share_of(picture, colour):
    return (picture == colour).all(-1).mean()


def test_both_outlines_are_there_and_what_differs_is_tinted():
    both = drawn([panel()])
    assert share_of(both, UNADAPTED) > 0.001 and share_of(both, ADAPTED) > 0.001
    top = 40 + GAP + STRIP
    scale = SIZE / (20 * 1.5)
    lost = both[top + int(12 * scale) : top + int(13 * scale), int(6.5 * scale) : int(7.5 * scale)].reshape(-1, 3).mean(0)
    won = both[top + int(12 * scale) : top + int(13 * scale), int(20 * scale) : int(22 * scale)].reshape(-1, 3).mean(0)
    assert lost[0] > lost[1] + 20, "pink shines where the unadapted answer alone is"
    assert won[1] > won[0] + 20, "green shines where the adapted answer alone is"
    kept = both[top + int(12 * scale) : top + int(13 * scale), int(11 * scale) : int(12 * scale)].reshape(-1, 3)
    assert np.ptp(kept, axis=1).max() == 0, "where both agree, the image is as it is"


def test_the_legend_names_the_answers_that_are_there():
    one, other, both = drawn([panel(adapted=False)]), drawn([panel(unadapted=False)]), drawn([panel()])
    legend = [picture[-STRIP - GAP :] for picture in (one, other, both)]
    assert [share_of(part, UNADAPTED) > 0 for part in legend] == [True, False, True]
    assert [share_of(part, ADAPTED) > 0 for part in legend] == [False, True, True]


def test_a_photograph_is_shown_whole_and_a_slice_is_cut():
    assert drawn([panel(photograph=True)]).shape[1] == PHOTOGRAPH_SIZE
    assert drawn([panel(), panel(), panel()]).shape[1] == 3 * (SIZE + GAP) - GAP


def test_pixels_have_their_aspect_and_the_side_is_written():
    high = drawn([panel(pixel=(4.0, 1.0))] * 3).shape
    assert drawn([panel(pixel=(1.0, 4.0))] * 3).shape[0] < high[0]
    assert (drawn([panel(left="R")]) != drawn([panel()])).any()


@pytest.mark.parametrize("title", [None, "a", "x" * 400, "bad\udcffname\n\x1b[2J", "W" * 300])
def test_any_title_is_drawn_within_the_picture(title):
    picture = drawn([panel()], title, "a reason of some length " * 30)
    assert (picture[:, -2:][: 40 + GAP] == 255).all() and picture.shape[0] < 2 * SIZE + 400


def test_without_a_title_the_words_come_first():
    assert (drawn([panel()], None)[:20] == drawn([panel()], "name")[20:40]).all() and len(drawn([panel()], "a"))
