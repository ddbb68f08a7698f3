"""What readers say of damaged files, in words for people."""

import gzip

import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_tta.pipeline.describe_error import describe_error
from tests.attack.arena import save


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut.nii.gz", "the file ends early: it is damaged, or was copied in part"),
        ("word.nrrd", "no reader of this bundle can read it: damaged, or not an image of a kind it knows"),
    ],
)
def test_a_readers_own_words_are_replaced(tmp_path, name, said):
    file = tmp_path / name
    if name.endswith(".gz"):
        whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).normal(size=(30, 30, 30)))
        file.write_bytes(whole.read_bytes()[:20000])
        assert len(gzip.decompress(whole.read_bytes())) > 100000
    else:
        file.write_text("I am no image", encoding="utf-8")
    with pytest.raises(Exception) as found:
        np.asarray(LoadImage(image_only=True)(file))
    assert describe_error(found.value) == said
