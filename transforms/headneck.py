"""Head-and-neck CT as SegRap2023 labels it: 45 organs, which overlap, and two tumour volumes, as 47 binary channels.

The challenge gives its organs in two ways: a mask per organ, and a map of 54 parts that exclude each other. An organ is a union
of parts. 47 channels of a whole scan are too much to carry through preprocessing, so these transforms carry *codes*: two float32
channels, of which each voxel's 47 bits say what is there. Cropping and nearest interpolation never mix the bits of two voxels,
and float32 holds all integers of 24 bits. `UnpackStructuresd` makes channels of them once the image is small.

Source of the tables: the challenge's public evaluation code (Luo et al., SegRap2023, Medical Image Analysis 101, 2025, 103447).
The parts' names are third parties', who agree with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform, with_meta_of

N_PARTS = 54
ORGANS: dict[str, tuple[int, ...]] = {
    "Brain": (1, 2, 3, 4, 5, 6, 7, 8, 9),
    "BrainStem": (2,),
    "Chiasm": (3,),
    "TemporalLobe_L": (4, 6),
    "TemporalLobe_R": (5, 7),
    "Hippocampus_L": (6, 8),
    "Hippocampus_R": (7, 9),
    "Eye_L": (10, 12),
    "Eye_R": (11, 13),
    "Lens_L": (12,),
    "Lens_R": (13,),
    "OpticNerve_L": (14,),
    "OpticNerve_R": (15,),
    "MiddleEar_L": (16, 18, 20, 24, 28, 30),
    "MiddleEar_R": (17, 19, 21, 25, 29, 31),
    "IAC_L": (18,),
    "IAC_R": (19,),
    "TympanicCavity_L": (20, 22),
    "TympanicCavity_R": (21, 23),
    "VestibulSemi_L": (24, 26),
    "VestibulSemi_R": (25, 27),
    "Cochlea_L": (28,),
    "Cochlea_R": (29,),
    "ETbone_L": (30, 32),
    "ETbone_R": (31, 33),
    "Pituitary": (34,),
    "OralCavity": (35,),
    "Mandible_L": (36,),
    "Mandible_R": (37,),
    "Submandibular_L": (38,),
    "Submandibular_R": (39,),
    "Parotid_L": (40,),
    "Parotid_R": (41,),
    "Mastoid_L": (42,),
    "Mastoid_R": (43,),
    "TMjoint_L": (44,),
    "TMjoint_R": (45,),
    "SpinalCord": (46,),
    "Esophagus": (47,),
    "Larynx": (48, 49, 50, 51),
    "Larynx_Glottic": (49,),
    "Larynx_Supraglot": (50,),
    "PharynxConst": (51, 52),
    "Thyroid": (53,),
    "Trachea": (54,),
}
TUMOURS: dict[str, tuple[int, ...]] = {"GTVp": (1,), "GTVnd": (2,)}
STRUCTURES: tuple[str, ...] = (*ORGANS, *TUMOURS)
# NSD counts a border as right up to this distance, in mm.
TOLERANCES: tuple[float, ...] = tuple({"OralCavity": 3.0, "Larynx": 2.0}.get(name, 1.0) for name in STRUCTURES)
_BITS = 24  # of a code's channel


def _bits_of(names: Iterable[str]) -> Tensor:
    """The code ``(2,)`` of a voxel that belongs to these structures."""
    code = torch.zeros(2)
    for place in map(STRUCTURES.index, names):
        code[place // _BITS] += 2 ** (place % _BITS)
    return code


def _codes_of(structures: Mapping[str, tuple[int, ...]], highest: int) -> Tensor:
    """The code ``(2,)`` of each value of a map, ``(highest + 1, 2)``."""
    return torch.stack([_bits_of(name for name, parts in structures.items() if n in parts) for n in range(highest + 1)])


_PART_CODES = _codes_of(ORGANS, N_PARTS)
_TUMOUR_CODES = _codes_of(TUMOURS, len(TUMOURS))


def pack_maps(parts: Tensor, tumours: Tensor) -> Tensor:
    """Codes ``(2, x, y, z)`` of the challenge's two integer maps.

    Args:
        parts: ``(x, y, z)``, 0 for background and 1 to 54 (its Task001).
        tumours: ``(x, y, z)``, 0 for background, 1 GTVp, 2 GTVnd (its Task002).

    Raises:
        ValueError: for other values, or maps of different shapes.
    """
    if parts.shape != tumours.shape:
        raise ValueError(f"the map of parts is {tuple(parts.shape)} and the map of tumours {tuple(tumours.shape)}")
    codes = [
        _looked_up(parts, _PART_CODES, "map of parts (Task001)"),
        _looked_up(tumours, _TUMOUR_CODES, "map of tumours (Task002)"),
    ]
    return codes[0] + codes[1]  # no structure is in both, so adding sets bits


def _looked_up(map_: Tensor, codes: Tensor, what: str) -> Tensor:
    """The code of each voxel's value."""
    numbers = map_.long()
    if bool((numbers != map_).any()) or bool(((numbers < 0) | (numbers >= len(codes))).any()):
        raise ValueError(f"a {what} holds whole numbers from 0 to {len(codes) - 1}, found {map_.min():g} to {map_.max():g}")
    return codes.to(numbers.device)[numbers].movedim(-1, 0).contiguous()


def pack_structures(masks: Mapping[str, Tensor]) -> Tensor:
    """Codes ``(2, x, y, z)`` of masks ``(x, y, z)`` by the structures' names. Above 0 is inside: files hold 0/1 or 0/255.

    A structure without a mask is nowhere.

    Args:
        masks: tensors ``(x, y, z)``, by the structures' names.

    Raises:
        ValueError: for an unknown name, masks of different shapes, or none at all.
    """
    if unknown := sorted(set(masks) - set(STRUCTURES)):
        raise ValueError(f"no structure {unknown[0]!r}; there are {', '.join(STRUCTURES)}")
    if len(shapes := {tuple(mask.shape) for mask in masks.values()}) != 1:
        raise ValueError(f"masks of one scan have one shape, found {sorted(shapes)}")
    codes = torch.zeros(2, *shapes.pop())
    for name, mask in masks.items():
        place = STRUCTURES.index(name)
        codes[place // _BITS] += (torch.as_tensor(mask) > 0) * 2.0 ** (place % _BITS)
    return codes


def structure_mask(codes: Tensor, place: int) -> Tensor:
    """Where one structure is, ``(*spatial)``, of truth values.

    Args:
        codes: ``(2, *spatial)``.
        place: the structure's place in `STRUCTURES`, from 0.
    """
    return (torch.as_tensor(codes)[place // _BITS].int() >> place % _BITS) & 1 == 1


def unpack_structures(codes: Tensor) -> Tensor:
    """Masks ``(47, *spatial)`` of 0 and 1, float32, of codes ``(2, *spatial)``.

    Args:
        codes: two channels of whole numbers.

    Raises:
        ValueError: for another number of channels.
    """
    if codes.shape[0] != 2:
        raise ValueError(f"codes have 2 channels, found {tuple(codes.shape)}; load labels with LoadStructuresd")
    return torch.stack([structure_mask(codes, place) for place in range(len(STRUCTURES))]).float()


class UnpackStructuresd(KeyedTransform):
    """`unpack_structures` for the given keys; meta data stay.

    Args:
        keys: which entries of the dictionary to transform.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, _unpacked, allow_missing_keys)


def _unpacked(codes: Any) -> Tensor:
    return with_meta_of(unpack_structures(codes), codes)


class StructureWeightsd(MapTransform):
    """Add a map of weights by which MONAI's `RandWeightedCropd` finds small structures as often as large ones.

    Each structure weighs one altogether, spread evenly over its voxels. A scan without any structure has even weights.

    Args:
        keys: the codes' key.
        weight_key: the key of the map, ``(1, *spatial)``.
    """

    def __init__(self, keys: KeysCollection, weight_key: str = "weight") -> None:
        super().__init__(keys)
        self.weight_key = weight_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the map."""
        codes = data[self.keys[0]]
        weights = torch.zeros(codes.shape[1:])
        for place in range(len(STRUCTURES)):
            mask = structure_mask(codes, place).as_subclass(Tensor)
            weights += mask / max(int(mask.sum()), 1)
        if not bool(weights.any()):
            weights += 1
        return dict(data) | {self.weight_key: with_meta_of(weights[None], codes)}


class NormalizeSeriesd(KeyedTransform):
    """Z-score each channel of a scan by its own mean and standard deviation; a missing series is 0, which is its mean.

    The challenge's baseline normalises so, too, instead of clipping Hounsfield units. Which series are missing stands in the
    image's meta data, where `LoadSeriesd` wrote it.

    Args:
        keys: which entries of the dictionary to transform.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, _z_scores, allow_missing_keys)


def _z_scores(img: Any) -> Tensor:
    """An image ``(C, *spatial)``, whose meta data may have "missing_series", the channels that are filled."""
    values = torch.as_tensor(img).as_subclass(Tensor).double()
    spatial = tuple(range(1, values.ndim))
    mean = values.mean(spatial, keepdim=True)
    deviation = values.std(spatial, keepdim=True, correction=0)
    is_constant = deviation <= 1e-9 * mean.abs().clamp_min(1)  # what is left then is rounding
    scores = ((values - mean) / torch.where(is_constant, 1.0, deviation)).float()
    missing = [int(n) for n in str(getattr(img, "meta", {}).get("missing_series", "")).split()]
    scores[missing] = 0
    return with_meta_of(scores, img)
