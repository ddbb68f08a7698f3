"""Fundus transforms: what their docstrings say, for arrays and dictionaries."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import Compose, Flipd, Invertd
from PIL import Image

from monai_tta.transforms import fundus
from monai_tta.transforms.phantoms import Scanner, fundus_phantom


def with_meta(image):
    return MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 2, 1, 1])), meta={"where": "ward"})


def test_field_of_view_is_the_disc_that_the_camera_saw():
    image = fundus_phantom((96, 96)).image
    image[:, 48:52, 40:44] = 0  # a dark spot inside belongs to it
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 96)] * 2, indexing="ij")
    truth = (rows**2 + columns**2 < 0.95**2).float()
    found = fundus.FundusFieldOfViewd("image")({"image": image})["fov"]
    assert found.shape == (1, 96, 96) and (found[0] != truth).float().mean() < 0.02
    assert torch.equal(found, fundus.FundusFieldOfView()(image * 255))
    kept = fundus.FundusFieldOfView()(with_meta(image))
    assert kept.meta["where"] == "ward" and torch.equal(kept.affine, with_meta(image).affine)
    with pytest.raises(ValueError, match="found -1; look before a z-score"):
        fundus.FundusFieldOfView()(image * 2 - 1)


def test_grey_masks_become_nested_channels_and_grey_masks_again():
    nested = fundus_phantom((64, 64)).label
    grey = fundus.NestedToGreyd("m")({"m": nested})["m"]
    assert set(grey.unique().tolist()) == {0, 128, 255}
    assert torch.equal(fundus.GreyToNestedd("m")({"m": grey})["m"], nested)
    noise = torch.randint(-9, 9, grey.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fundus.GreyToNested()(grey + noise), nested)
    other = fundus.NestedToGrey(disc=1, cup=2, background=0)(nested)
    assert torch.equal(fundus.GreyToNested(disc=1, cup=2, background=0)(other), nested)
    assert set(other.unique().tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="one channel, found shape"):
        fundus.GreyToNested()(nested)
    with pytest.raises(ValueError, match=r"\(2, H, W\), found shape \(1,"):
        fundus.NestedToGrey()(grey)
    for step, mask in ((fundus.GreyToNestedd("m"), with_meta(grey)), (fundus.NestedToGreyd("m"), with_meta(nested))):
        back = Compose([step]).inverse(step({"m": mask}))["m"]
        assert torch.equal(back.as_tensor(), mask.as_tensor()) and back.meta["where"] == "ward"
        assert step.transform(mask).meta["where"] == "ward"


def test_exact_greys_are_read_as_the_benchmark_reads_them():
    greys = torch.tensor([[[0.0, 1, 30, 128, 200, 254, 255]]])
    assert fundus.GreyToNested(exact=True)(greys).tolist() == [[[1, 1, 1, 1, 1, 1, 0]], [[1, 0, 0, 0, 0, 0, 0]]]
    assert fundus.GreyToNested()(greys).tolist() == [[[1, 1, 1, 1, 0, 0, 0]], [[1, 1, 1, 0, 0, 0, 0]]]


@pytest.mark.parametrize("source", ["label", "image"])
def test_crops_hold_the_disc_and_can_be_undone(source):
    phantom = fundus_phantom((96, 96), seed=2)
    data = {"image": MetaTensor(phantom.image), "label": MetaTensor(phantom.label)}
    steps = fundus.CropAroundDiscd(["image", "label"], size=64, source_key=source)
    cropped = steps(data)
    assert cropped["image"].shape == (3, 64, 64) and torch.equal(cropped["label"].sum(), phantom.label.sum())
    cropped["pred"] = cropped["label"]
    back = Invertd("pred", Compose([steps]), orig_keys="label", nearest_interp=True)(cropped)["pred"]
    assert torch.equal(back.as_tensor(), phantom.label)
    with pytest.raises(ValueError, match="'label' is empty"):
        fundus.CropAroundDiscd(["image", "label"], source_key="label")({**data, "label": phantom.label * 0})


@pytest.mark.parametrize("seed", range(4))
def test_a_margin_around_a_mask(seed):
    phantom = fundus_phantom((96, 80), seed=seed)
    rows, columns = (phantom.label[0].amax(k).nonzero() for k in (1, 0))
    extent = int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1
    cropped = fundus.CropAroundDisc(margin=0.25)(phantom.label)
    assert cropped.shape == (2, *[int(np.ceil(extent * 1.5))] * 2) and cropped.sum() == phantom.label.sum()
    both = fundus.CropAroundDiscd(["a", "b"], margin=0.25, source_key="b")({"a": phantom.image, "b": phantom.label})
    assert torch.equal(both["b"], cropped)
    assert torch.equal(both["a"], fundus.CropAroundDisc(margin=0.25)(phantom.image, phantom.label))


def test_a_square_stays_inside_the_picture_while_it_fits():
    ones, mask = torch.ones(1, 40, 40), torch.zeros(1, 40, 40)
    for corner in ((0, 0), (0, 39), (39, 0), (39, 39)):
        mask[:] = 0
        mask[0, corner[0], corner[1]] = 1
        assert fundus.CropAroundDisc(size=21)(ones, mask).sum() == 21 * 21
        assert fundus.CropAroundDisc(size=21)(mask).sum() == 1
    crop = fundus.CropAroundDisc(size=50)
    padded = crop(ones, mask)
    assert padded.shape == (1, 50, 50) and padded.sum() == 1600
    assert torch.equal(crop.inverse(padded).as_tensor(), ones)


def test_impossible_crops_are_refused():
    phantom = fundus_phantom((64, 64))
    for words, message in (({"size": 9, "margin": 1}, "not both"), ({"size": 0}, "found 0"), ({"margin": -1}, "found -1")):
        with pytest.raises(ValueError, match=message):
            fundus.CropAroundDisc(**words)
    data = {"image": phantom.image, "grey": fundus.NestedToGrey()(phantom.label), "small": torch.ones(1, 9, 9)}
    for key, message in (("image", "margin needs a mask"), ("grey", "GreyToNestedd"), ("small", "'small' is .9, 9. and the")):
        with pytest.raises(ValueError, match=message):
            fundus.CropAroundDiscd("image", margin=0.5, source_key=key)(data)


def test_fundus_preprocessing_is_the_benchmarks(tmp_path):
    """Compared with Pillow, and with the benchmark's reading of greys."""
    # Not square, (rows, columns) as in a file; hard edges, at which a bicubic curve overshoots.
    phantom = fundus_phantom((300, 240), seed=1, scanner=Scanner(noise=0.0))
    Image.fromarray((phantom.image * 255).byte().permute(1, 2, 0).numpy()).convert("RGBA").save(tmp_path / "p.png")
    grey = fundus.NestedToGrey()(phantom.label)[0].byte()
    grey[:9, :9] = 200  # neither of the three
    Image.fromarray(grey.numpy()).save(tmp_path / "m.bmp")
    steps = fundus.fundus_preprocessing(label="label", size=(200, 160))
    data = steps({"image": str(tmp_path / "p.png"), "label": str(tmp_path / "m.bmp")})
    photograph = np.array(Image.open(tmp_path / "p.png").convert("RGB").resize((160, 200)), np.float32).transpose(2, 1, 0)
    expected = (photograph - photograph.min()) / (photograph.max() - photograph.min())
    mask = np.array(Image.open(tmp_path / "m.bmp").convert("L").resize((160, 200), Image.Resampling.NEAREST)).T
    assert data["image"].shape == (3, 160, 200) and data["image"].min() == 0 and data["image"].max() == 1
    assert np.abs(data["image"].numpy() - expected).mean() < 1 / 255
    assert np.array_equal(data["label"].numpy(), np.stack([mask < 255, mask == 0]))
    data["pred"] = data["label"]
    back = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(data)["pred"]
    assert back.shape == (2, 240, 300), "an answer stays two channels; only the label's own key turns grey"
    data["pred"] = data["label"]
    assert Invertd("pred", steps, orig_keys="label", nearest_interp=True)(data)["pred"].shape == (1, 240, 300)


@pytest.mark.parametrize("size", [48, 140])
def test_lazy_crops_equal_eager_ones(size):
    """Several steps in one resampling. Those before the crop are executed first, because the disc has to be found."""
    phantom = fundus_phantom((128, 128), seed=3)
    data = {"image": with_meta(phantom.image), "label": with_meta(phantom.label)}
    keys, crop = ["image", "label"], {"size": size, "source_key": "label"}
    pending = fundus.CropAroundDiscd(keys, **crop, lazy=True)(data)
    assert len(pending["image"].pending_operations) == 2 and pending["image"].shape == (3, 128, 128)
    steps = [Flipd(keys, 0), fundus.CropAroundDiscd(keys, **crop), Flipd(keys, 1)]
    eager, lazy = (Compose(steps, lazy=lazy, overrides={k: {"mode": 0} for k in keys})(data) for lazy in (False, True))
    for key in keys:
        torch.testing.assert_close(lazy[key].as_tensor(), eager[key].as_tensor())
        # MONAI's resampling of 2D images leaves affines of three rows, some versions of it with four columns
        lazy_affine, eager_affine = (to_affine_nd(2, found[key].affine) for found in (lazy, eager))
        torch.testing.assert_close(lazy_affine, eager_affine)
    assert lazy["label"].shape == (2, size, size) and lazy["label"].sum() == phantom.label.sum()
