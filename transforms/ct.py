"""CT: Hounsfield windows by organ, and preprocessing from a file or a DICOM series to a network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    ScaleIntensityRange,
    Spacingd,
    Transform,
)
from torch import Tensor

from monai_tta.transforms.keyed import KeyedTransform

# Centre and width in HU; for sources see HounsfieldWindow.
HU_WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (40, 400),
    "soft tissue": (50, 400),
    "liver": (30, 150),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "bone": (400, 1800),
    "brain": (40, 80),
}


class HounsfieldWindow(Transform):
    """Scale a CT by an organ's window: HU from its lower to its upper end become 0 to 1, and values outside are clipped.

    Args:
        organ: a name in `HU_WINDOWS`, or (centre, width) in HU.

    Raises:
        ValueError: for an unknown name or a width that is not positive.

    Sources: the values for soft tissue (of the abdomen), liver, lung, mediastinum, bone and brain are those of Radiopaedia's
    article "Windowing (CT)". "abdomen", -160 to 240 HU, is what the bundle `abdomen_ct` clips to and was trained with.
    """

    def __init__(self, organ: str | tuple[float, float] = "abdomen") -> None:
        if isinstance(organ, str) and organ not in HU_WINDOWS:
            raise ValueError(f"no window {organ!r}; choose one of {', '.join(HU_WINDOWS)} or give (centre, width) in HU")
        centre, width = HU_WINDOWS[organ] if isinstance(organ, str) else organ
        if not width > 0:
            raise ValueError(f"a window's width in HU must be positive, found {width}")
        self.limits = centre - width / 2, centre + width / 2
        self.scale = ScaleIntensityRange(*self.limits, 0.0, 1.0, clip=True)

    def __call__(self, img: Tensor) -> Tensor:
        """Window an image in HU, of any shape; values in [0, 1]."""
        return torch.as_tensor(self.scale(img))


class HounsfieldWindowd(KeyedTransform):
    """`HounsfieldWindow` for the given keys.

    Args:
        keys: which entries of the dictionary to transform.
        organ: see `HounsfieldWindow`.
        allow_missing_keys: whether a dictionary may lack some of the keys.
    """

    def __init__(
        self, keys: KeysCollection, organ: str | tuple[float, float] = "abdomen", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, HounsfieldWindow(organ), allow_missing_keys)


def ct_preprocessing(
    image: str = "image",
    label: str | None = None,
    organ: str | tuple[float, float] = "abdomen",
    spacing: Sequence[float] = (1.5, 1.5, 2.0),
    axcodes: str = "RAS",
) -> Compose:
    """From a NIfTI file or a folder with one DICOM series to a network's input: oriented, resampled, windowed.

    Files are read by ITK. MONAI's `Invertd` can undo each step but the window.

    Args:
        image: key of the image's path.
        label: key of the label's path, if there is one; resampled by nearest neighbours.
        organ: a window, see `HounsfieldWindow`.
        spacing: voxel size in mm.
        axcodes: orientation, e.g. "RAS".
    """
    keys = [image] if label is None else [image, label]
    modes = ["bilinear", "nearest"][: len(keys)]
    return Compose(
        [
            LoadImaged(keys, reader="ITKReader"),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes=axcodes, labels=None),
            Spacingd(keys, pixdim=tuple(spacing), mode=modes),
            HounsfieldWindowd(image, organ),
            EnsureTyped(keys),
        ]
    )
