"""Masks of head-and-neck structures on their image's own grid, one at a time: 47 at once take gigabytes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Invertd, InvertibleTransform, MapTransform
from torch import Tensor

from monai_tta.transforms.headneck import STRUCTURES
from monai_tta.transforms.headneck_files import ENDINGS, SERIES


def masks_in_file(
    data: Mapping[Hashable, Any], key: Hashable, orig_key: str, transform: InvertibleTransform, threshold: float = 0.5
) -> Iterator[MetaTensor]:
    """Bring probabilities ``(K, *spatial)`` back to their image's own grid, channel by channel, so that memory has one at a time.

    Args:
        data: a case after inference.
        key: of the probabilities.
        orig_key: of the image whose transforms are undone.
        transform: the preprocessing.
        threshold: above which a voxel is inside, in [0, 1].

    Yields:
        a mask ``(1, x, y, z)`` of truth values for each channel. What preprocessing cut away is outside of every structure.
    """
    invert = Invertd(str(key), transform=transform, orig_keys=orig_key, nearest_interp=False)
    for channel in data[key]:
        alone = MetaTensor(torch.as_tensor(channel).as_subclass(Tensor)[None].clone())
        back = invert({orig_key: data[orig_key], str(key): alone})[str(key)]
        yield back > threshold


class SaveStructuresd(MapTransform):
    """Write a mask for each structure, ``<case>/<name>.nii.gz``, on the image's own grid: the challenge's layout of labels.

    One mask at a time is brought back, so that 47 of them need no more memory than one. Where a series was missing, the
    description in each header says which.

    Args:
        keys: of probabilities ``(K, *spatial)``.
        transform: the preprocessing, which is undone.
        output_dir: the folder for cases.
        orig_keys: the key of the image.
        names: of the channels.
        threshold: above it is inside.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: InvertibleTransform,
        output_dir: str,
        orig_keys: str = "image",
        names: Sequence[str] = STRUCTURES,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(keys)
        self.transform = transform
        self.output_dir = Path(output_dir)
        self.orig_keys = orig_keys
        self.names = tuple(names)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write, and return the same entries."""
        meta = data[self.orig_keys].meta
        folder = self.output_dir / _case_name(str(meta["filename_or_obj"]))
        folder.mkdir(parents=True, exist_ok=True)
        missing = [SERIES[int(n)] for n in str(meta.get("missing_series", "")).split()]
        for key in self.key_iterator(dict(data)):
            masks = masks_in_file(data, key, self.orig_keys, self.transform, self.threshold)
            for name, mask in zip(self.names, masks, strict=True):
                file = nib.Nifti1Image(mask[0].cpu().numpy().astype(np.uint8), mask.affine.cpu().numpy().astype(float))
                file.header.set_xyzt_units("mm")
                file.header["descrip"] = f"{missing[0]} series missing".encode() if missing else b""
                nib.save(file, folder / f"{name}.nii.gz")
        return dict(data)


def _case_name(path: str) -> str:
    """The last part of a path, without a file's ending."""
    name = Path(path).name
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)
