"""The files of head-and-neck CT as SegRap2023 lays them out: two registered series, and labels in two forms.

A case is a folder with ``image.nii.gz`` (CT without contrast) and ``image_contrast.nii.gz`` (with contrast), on one grid.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapTransform
from torch import Tensor

from monai_tta.transforms.headneck import STRUCTURES, pack_maps, pack_structures
from monai_tta.transforms.keyed import with_meta_of

SERIES = ("non-contrast", "contrast")
ENDINGS = (".nii.gz", ".nii", ".mha")
_STEMS = ("image", "image_contrast")
_AIR = -1024.0  # HU


def case_files(folder: Path, stems: Sequence[str]) -> list[Path | None]:
    """The file of each stem in a folder, None where there is none. Doubles such as "Brain (1).nii.gz" are never taken."""
    files = ([folder / f"{stem}{ending}" for ending in ENDINGS] for stem in stems)
    return [next((file for file in choices if file.is_file()), None) for choices in files]


def check_same_grid(first: Any, other: Any, names: tuple[str, str]) -> None:
    """Refuse two files whose voxels are not at the same places, to a tenth of a millimetre.

    Args:
        first: the shape and the affine of a file.
        other: those of another one.
        names: what they are called in the message.

    Raises:
        ValueError: saying what differs.
    """
    (shape, affine), (other_shape, other_affine) = first, other
    if tuple(shape) != tuple(other_shape):
        raise ValueError(
            f"{names[1]} is {tuple(other_shape)} and {names[0]} is {tuple(shape)}: they must be registered, on one grid"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(len(shape), -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    apart = float(np.abs((np.asarray(affine) - np.asarray(other_affine)) @ corners).max())
    if not apart < 0.1:
        raise ValueError(f"{names[1]} lies up to {apart:.3g} mm beside {names[0]}: they must be registered, on one grid")


class LoadSeriesd(MapTransform):
    """Load the two series of a case as one image ``(2, x, y, z)`` in HU: without contrast, with contrast.

    Args:
        keys: of what is loaded: a case's folder, its ``image`` file (the other one is looked for beside it), or both files.
        fill_missing: what happens to a case with one series. False: it is refused, because a network that learnt from pairs may
            answer it much worse, and nothing would tell. True: the missing series is air in HU, and 0, its mean, after
            `NormalizeSeriesd`. The meta data's "missing_series" has its channel's number.
        leave_out: "non-contrast" or "contrast" is taken for missing although it is there, to measure what that costs.
        allow_missing_keys: whether to skip keys that are not there.

    Raises:
        ValueError: when called for files that are no such case, or not on one grid; or for another ``leave_out``.
        FileNotFoundError: when called for a case with one series while ``fill_missing`` is False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fill_missing: bool = False,
        leave_out: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if leave_out is not None and leave_out not in SERIES:
            raise ValueError(f"leave_out is one of {', '.join(SERIES)} or None, found {leave_out!r}")
        self.fill_missing = fill_missing or leave_out is not None
        self.leave_out = leave_out
        self.load = LoadImage(reader="ITKReader", image_only=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the images."""
        return dict(data) | {key: self._image(data[key]) for key in self.key_iterator(dict(data))}

    def _image(self, given: Any) -> Tensor:
        files, name = _two_files(given)
        files = [None if series == self.leave_out else file for series, file in zip(SERIES, files, strict=True)]
        missing = [n for n, file in enumerate(files) if file is None]
        if len(missing) == 2:
            raise FileNotFoundError(f"{name} holds no series: a case is image.nii.gz and image_contrast.nii.gz in one folder")
        if missing and not self.fill_missing:
            raise FileNotFoundError(
                f"{name} has no {SERIES[missing[0]]} series ({_STEMS[missing[0]]}.nii.gz), and this network learnt from pairs. "
                "Set fill_missing to true to put its mean in that place; the answer is then worse than a pair's"
            )
        loaded = [None if file is None else self.load(file) for file in files]
        there = next(image for image in loaded if image is not None)
        for file, image in zip(files, loaded, strict=True):
            if image is not None:
                check_same_grid(_grid(there), _grid(image), (_short(next(f for f in files if f)), _short(file)))
        pair = torch.stack([torch.full_like(there, _AIR) if image is None else image for image in loaded])
        out = MetaTensor(pair.as_subclass(Tensor)).copy_meta_from(there)
        out.meta |= {"filename_or_obj": name, "missing_series": " ".join(map(str, missing)), "original_channel_dim": 0}
        return out


def _two_files(given: Any) -> tuple[list[Path | None], str]:
    """The files of both series, and the name of their case."""
    if isinstance(given, list | tuple):
        if len(given) != 2:
            raise ValueError(f"a case is two series, without and with contrast, found {len(given)} files")
        files = [None if file is None else Path(file) for file in given]
        return files, _short(next((file for file in files if file), None))
    path = Path(given)
    if path.is_dir():
        return case_files(path, _STEMS), str(path)
    files = case_files(path.parent, _STEMS)
    if path not in files or (files[0] is not None and path != files[0]):
        raise ValueError(
            f"{path.name} is not how a case is given, which is two registered CT series in one folder; "
            "give its folder, or image.nii.gz: image_contrast.nii.gz is found beside it"
        )
    return files, str(path.parent)


def _short(file: Path | None) -> str:
    """A file's name with its folder's."""
    return "a case" if file is None else f"{file.parent.name}/{file.name}"


def _grid(image: Any) -> tuple[Any, Any]:
    """Shape and affine of a loaded file."""
    return image.shape, image.affine


class LoadStructuresd(MapTransform):
    """Load the label of a case as codes ``(2, x, y, z)``, see `monai_tta.transforms.headneck`.

    Args:
        keys: of what is loaded: the two maps (parts, tumours), or a folder with a mask for each structure, ``<name>.nii.gz``.
        image_key: the case's image, which the label must lie on; None to leave that unchecked.
        missing_is_empty: whether a structure without a mask is not in the scan. False refuses, because a mask that is missing may
            mean that nobody drew it.
        allow_missing_keys: whether to skip keys that are not there.

    Raises:
        ValueError: when called for a label that is not on its image's grid, or that holds other numbers.
        FileNotFoundError: when called for a folder without any mask, or, unless ``missing_is_empty``, with one missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str | None = "image",
        missing_is_empty: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.missing_is_empty = missing_is_empty
        self.load = LoadImage(reader="ITKReader", image_only=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A new dictionary with the codes."""
        out = dict(data)
        for key in self.key_iterator(out):
            masks = self._maps(data[key]) if isinstance(data[key], list | tuple) else self._masks(Path(data[key]))
            name, first = next(iter(masks.items()))
            if self.image_key is not None:
                image = data[self.image_key]
                check_same_grid((image.shape[1:], image.affine), _grid(first), ("its image", name))
            for other, mask in masks.items():
                check_same_grid(_grid(first), _grid(mask), (name, other))
            plain = {k: mask.as_subclass(Tensor) for k, mask in masks.items()}
            codes = pack_maps(*plain.values()) if isinstance(data[key], list | tuple) else pack_structures(plain)
            out[key] = with_meta_of(codes, first)
            out[key].meta["original_channel_dim"] = 0
        return out

    def _maps(self, files: Sequence[Any]) -> dict[str, MetaTensor]:
        if len(files) != 2:
            raise ValueError(f"a label is two maps, of parts and of tumours, found {len(files)} files")
        return {what: self.load(file) for what, file in zip(("the map of parts", "the map of tumours"), files, strict=True)}

    def _masks(self, folder: Path) -> dict[str, MetaTensor]:
        files = dict(zip(STRUCTURES, case_files(folder, STRUCTURES), strict=True))
        missing = [name for name, file in files.items() if file is None]
        if len(missing) == len(files) or (missing and not self.missing_is_empty):
            raise FileNotFoundError(f"{folder} has no mask of {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}")
        return {name: self.load(file) for name, file in files.items() if file is not None}
