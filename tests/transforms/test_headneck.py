"""Head-and-neck labels: the table of parts and organs, codes that hold 47 masks, and the challenge's files."""

from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Affine, Spacing

from monai_tta.transforms.headneck import (
    N_PARTS,
    ORGANS,
    STRUCTURES,
    TOLERANCES,
    NormalizeSeriesd,
    StructureWeightsd,
    UnpackStructuresd,
    pack_maps,
    pack_structures,
    unpack_structures,
)
from monai_tta.transforms.headneck_files import LoadSeriesd, LoadStructuresd
from monai_tta.transforms.phantoms import headneck_phantom

SIDES = [name.removesuffix("_L") for name in ORGANS if name.endswith("_L")]
INSIDE = {(name, "Brain") for name in ("BrainStem", "Chiasm")}
INSIDE |= {(f"{name}_{side}", "Brain") for name in ("TemporalLobe", "Hippocampus") for side in "LR"}
INSIDE |= {(f"{name}_{side}", f"{outer}_{side}") for name, outer in (("Lens", "Eye"), ("IAC", "MiddleEar")) for side in "LR"}
INSIDE |= {(f"Cochlea_{side}", f"MiddleEar_{side}") for side in "LR"}
INSIDE |= {(f"Larynx_{name}", "Larynx") for name in ("Glottic", "Supraglot")}
PARTLY = {frozenset((f"Hippocampus_{side}", f"TemporalLobe_{side}")) for side in "LR"}
PARTLY |= {frozenset((f"{n}_{s}", f"MiddleEar_{s}")) for n in ("TympanicCavity", "VestibulSemi", "ETbone") for s in "LR"}
PARTLY |= {frozenset(("Larynx", "PharynxConst"))}
SIZE = (20, 20, 12)


def test_the_table_has_every_part_and_every_relation():
    assert len(ORGANS) == 45 and len(STRUCTURES) == len(set(STRUCTURES)) == 47 and STRUCTURES[-2:] == ("GTVp", "GTVnd")
    assert {part for parts in ORGANS.values() for part in parts} == set(range(1, N_PARTS + 1))
    inside, partly = set(), set()
    for one, two in combinations(ORGANS, 2):
        first, second = set(ORGANS[one]), set(ORGANS[two])
        if first < second or second < first:
            inside.add((one, two) if first < second else (two, one))
        elif first & second:
            partly.add(frozenset((one, two)))
    assert inside == INSIDE and partly == PARTLY
    other = {n for n, t in zip(STRUCTURES, TOLERANCES, strict=True) if t != 1}
    assert other == {"OralCavity", "Larynx"} and TOLERANCES[26] == 3 and TOLERANCES[39] == 2


def test_right_sides_are_the_left_sides_parts_and_one():
    for name in SIDES:
        assert tuple(part + 1 for part in ORGANS[f"{name}_L"]) == ORGANS[f"{name}_R"]
    assert len(SIDES) == 16


def test_a_maps_channels_are_the_unions_of_the_table():
    phantom = headneck_phantom(SIZE)
    parts, tumours = phantom.label
    assert set(parts.unique().tolist()) == set(range(N_PARTS + 1)) and set(tumours.unique().tolist()) == {0, 1, 2}
    channels = unpack_structures(pack_maps(parts, tumours))
    assert channels.shape == (47, *SIZE)
    for place, organ in enumerate(ORGANS):
        assert torch.equal(channels[place] > 0, torch.isin(parts, torch.tensor(ORGANS[organ], dtype=parts.dtype))), organ
    assert torch.equal(channels[45] > 0, tumours == 1) and torch.equal(channels[46] > 0, tumours == 2)


@pytest.mark.parametrize("value", [55, -1, 1.5])
def test_maps_of_other_numbers_are_refused(value):
    wrong = torch.full(SIZE, float(value))
    with pytest.raises(ValueError, match=r"map of parts \(Task001\) holds whole numbers from 0 to 54"):
        pack_maps(wrong, torch.zeros(SIZE))
    with pytest.raises(ValueError, match=r"map of tumours \(Task002\) holds whole numbers from 0 to 2"):
        pack_maps(torch.zeros(SIZE), wrong)
    with pytest.raises(ValueError, match="the map of parts is"):
        pack_maps(torch.zeros(SIZE), torch.zeros(3, 3, 3))


def test_codes_hold_any_47_masks_exactly_through_resampling_and_turning():
    """Also masks that no map of parts could hold."""
    masks = torch.rand(47, 9, 8, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    codes = pack_structures(dict(zip(STRUCTURES, masks * 255, strict=True)))
    assert codes.dtype == torch.float32 and torch.equal(unpack_structures(codes) > 0, masks)
    assert float(pack_structures({name: torch.ones(1, 1, 1) for name in STRUCTURES}).max()) == 2**24 - 1
    turn = Affine(rotate_params=(0.2, 0.1, 0.3), mode="nearest", padding_mode="zeros", image_only=True)
    assert torch.equal(unpack_structures(turn(codes)), turn(unpack_structures(codes)))
    finer = Spacing((0.7, 0.9, 1.4), mode="nearest")
    assert torch.equal(unpack_structures(finer(MetaTensor(codes))), finer(MetaTensor(unpack_structures(codes))))


def test_structures_by_name():
    with pytest.raises(ValueError, match="no structure 'Nose'; there are Brain"):
        pack_structures({"Nose": torch.ones(2, 2, 2)})
    with pytest.raises(ValueError, match="one shape"):
        pack_structures({"Brain": torch.ones(2, 2, 2), "Chiasm": torch.ones(2, 2, 3)})
    with pytest.raises(ValueError, match="one shape"):
        pack_structures({})
    with pytest.raises(ValueError, match="codes have 2 channels"):
        unpack_structures(torch.zeros(1, 2, 2, 2))
    label = MetaTensor(pack_structures({"Chiasm": torch.ones(2, 2, 2)}), affine=torch.diag(torch.tensor([2.0, 2, 3, 1])))
    channels = UnpackStructuresd("label")({"label": label})["label"]
    assert channels.affine[2, 2] == 3 and channels.sum() == channels[2].sum() == 8


def test_each_structure_weighs_one():
    codes = pack_structures({"Brain": torch.ones(4, 4, 4), "Chiasm": torch.eye(4)[..., None].expand(4, 4, 4) > 0})
    weights = StructureWeightsd("label")({"label": codes})["weight"]
    assert weights.shape == (1, 4, 4, 4) and float(weights.sum()) == pytest.approx(2)
    assert float(weights[0, 0, 0, 0]) == pytest.approx(1 / 64 + 1 / 16) and float(weights[0, 0, 1, 0]) == pytest.approx(1 / 64)
    even = StructureWeightsd("label", "w")({"label": torch.zeros(2, 3, 3, 3)})["w"]
    assert bool((even == 1).all()), "a scan without structures can be cropped, too"


@pytest.mark.parametrize("missing", ["", "0", "1"])
def test_each_series_is_normalised_by_itself_and_a_missing_one_is_zero(missing):
    image = MetaTensor(torch.randn(2, 5, 6, 7) * torch.tensor([9.0, 300]).view(2, 1, 1, 1) + 50, meta={"missing_series": missing})
    out = NormalizeSeriesd("image")({"image": image})["image"]
    for channel in range(2):
        if missing == str(channel):
            assert not out[channel].any()
        else:
            assert abs(float(out[channel].mean())) < 1e-5 and float(out[channel].std(correction=0)) == pytest.approx(1, abs=1e-4)
    flat = NormalizeSeriesd("image")({"image": torch.full((1, 3, 3, 3), 0.1)})["image"]
    assert flat.isfinite().all() and not flat.round(decimals=6).any()


def write(file, data, spacing=(1.0, 1, 3), shift=0.0):
    affine = np.diag([*spacing, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.asarray(data), affine), file)


@pytest.fixture
def case(tmp_path):
    """A case with both series."""
    phantom = headneck_phantom(SIZE)
    folder = tmp_path / "segrap_0001"
    folder.mkdir()
    for name, series in zip(("image", "image_contrast"), phantom.image, strict=True):
        write(folder / f"{name}.nii.gz", series.numpy())
    return folder


def test_a_case_is_its_folder_its_first_file_or_both_files(case):
    both = [str(case / "image.nii.gz"), str(case / "image_contrast.nii.gz")]
    images = [LoadSeriesd("image")({"image": given})["image"] for given in (str(case), both[0], both)]
    for image in images:
        torch.testing.assert_close(image.as_subclass(torch.Tensor), headneck_phantom(SIZE).image)
        assert image.meta["missing_series"] == "" and image.meta["filename_or_obj"].split("/")[-1] in (
            "segrap_0001",
            "image.nii.gz",
        )
    for wrong in (both[1], str(case / "Brain.nii.gz"), [both[0]]):
        with pytest.raises(ValueError, match="two (registered CT )?series"):
            LoadSeriesd("image")({"image": wrong})


def test_one_series_is_refused_unless_its_mean_is_asked_for(case):
    (case / "image_contrast.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no contrast series .*Set fill_missing to true"):
        LoadSeriesd("image")({"image": str(case)})
    image = LoadSeriesd("image", fill_missing=True)({"image": str(case)})["image"]
    assert image.meta["missing_series"] == "1" and bool((image[1] == -1024).all()) and image[0].std() > 100
    (case / "image.nii.gz").rename(case / "image_contrast.nii.gz")
    given = {"image": str(case / "image_contrast.nii.gz")}
    assert LoadSeriesd("image", fill_missing=True)(given)["image"].meta["missing_series"] == "0"
    (case / "image_contrast.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="holds no series"):
        LoadSeriesd("image", fill_missing=True)({"image": str(case)})


def test_a_series_can_be_left_out(case):
    image = LoadSeriesd("image", leave_out="non-contrast")({"image": str(case)})["image"]
    assert image.meta["missing_series"] == "0" and image[1].std() > 100
    with pytest.raises(ValueError, match="one of non-contrast, contrast or None"):
        LoadSeriesd("image", leave_out="t1")


def test_series_on_different_grids_are_refused(case):
    write(case / "image_contrast.nii.gz", np.zeros((20, 20, 13), np.float32))
    with pytest.raises(ValueError, match=r"image_contrast.nii.gz is \(20, 20, 13\) and .*/image.nii.gz is \(20, 20, 12\)"):
        LoadSeriesd("image")({"image": str(case)})
    write(case / "image_contrast.nii.gz", np.zeros(SIZE, np.float32), shift=2.0)
    with pytest.raises(ValueError, match="lies up to 2 mm beside"):
        LoadSeriesd("image")({"image": str(case)})


def test_both_forms_of_labels_give_the_same_codes(case, tmp_path):
    parts, tumours = headneck_phantom(SIZE).label
    for name, map_ in (("parts", parts), ("tumours", tumours)):
        write(tmp_path / f"{name}.nii.gz", map_.numpy().astype(np.uint8))
    channels = unpack_structures(pack_maps(parts, tumours))
    for place, (name, mask) in enumerate(zip(STRUCTURES, channels, strict=True)):
        write(case / f"{name}.nii.gz", mask.numpy().astype(np.uint8) * (255 if place % 2 else 1))
    write(case / "Brain (1).nii.gz", np.ones(SIZE, np.uint8))
    data = LoadSeriesd("image")({"image": str(case), "label": [str(tmp_path / f"{n}.nii.gz") for n in ("parts", "tumours")]})
    of_maps = LoadStructuresd("label")(data)["label"]
    of_masks = LoadStructuresd("label")(data | {"label": str(case)})["label"]
    assert torch.equal(of_maps.as_subclass(torch.Tensor), pack_maps(parts, tumours)) and torch.equal(of_maps, of_masks)
    assert torch.equal(of_maps.affine, data["image"].affine)
    (case / "GTVnd.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="has no mask of GTVnd"):
        LoadStructuresd("label")(data | {"label": str(case)})
    empty = LoadStructuresd("label", missing_is_empty=True)(data | {"label": str(case)})["label"]
    assert not unpack_structures(empty)[46].any() and unpack_structures(empty)[45].any()
    write(case / "Chiasm.nii.gz", np.zeros(SIZE, np.uint8), shift=1.0)
    with pytest.raises(ValueError, match="Chiasm lies up to 1 mm beside Brain"):
        LoadStructuresd("label", missing_is_empty=True)(data | {"label": str(case)})
    write(tmp_path / "parts.nii.gz", parts.numpy(), shift=5.0)
    with pytest.raises(ValueError, match="the map of parts lies up to 5 mm beside its image"):
        LoadStructuresd("label")(data)


def test_the_phantoms_left_is_at_low_x_in_ras():
    parts = headneck_phantom(SIZE).label[0]
    assert int((parts == 10).nonzero()[:, 0].max()) < int((parts == 11).nonzero()[:, 0].min())
