"""Draw one picture per modality, of each simulated scanner at severity 1, 3 and 5: `python -m docs.gallery.shifts --out DIR`."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, Orientation
from nilearn.datasets import load_mni152_template

from monai_tta.transforms.phantoms import ct_phantom, fundus_phantom
from monai_tta.transforms.shift_ct import CT_SHIFTS
from monai_tta.transforms.shift_fundus import FUNDUS_SHIFTS
from monai_tta.transforms.shift_mri import MRI_SHIFTS


def picture_of(image, shift):
    """The photograph; or the middle axial slice; or a coronal one, where slices show their thickness. And its aspect ratio."""
    if image.ndim == 3:
        return np.asarray(image).transpose(1, 2, 0), 1.0
    if "Slice" in shift.__name__:
        spacing = image.pixdim if isinstance(image, MetaTensor) else (1, 1, 1)
        return np.asarray(image[0, :, image.shape[2] // 2]).T[::-1], float(spacing[2] / spacing[0])
    return np.asarray(image[0, ..., image.shape[3] // 2]).T[::-1], 1.0


def draw(image, shifts, file, limits, seed=0):
    """Draw a row for each shift: the image as it is, then at severity 1, 3 and 5."""
    figure, axes = plt.subplots(len(shifts), 4, figsize=(12, 3 * len(shifts)), layout="tight")
    for row, shift in zip(axes, shifts, strict=True):
        for axis, severity in zip(row, (0, 1, 3, 5), strict=True):
            picture, aspect = picture_of(shift(severity, seed)(image) if severity else image, shift)
            axis.imshow(picture, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect)
            axis.set_title(f"{shift.__name__} {severity}" if severity else "as it is", fontsize=9)
            axis.set_axis_off()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def main(
    out: Annotated[Path, typer.Option(help="the folder for the pictures")] = Path("gallery"),
    mri: Annotated[Path | None, typer.Option(help="an MRI; the ICBM-152 template if not given")] = None,
    ct: Annotated[Path | None, typer.Option(help="a CT in HU; a phantom if not given")] = None,
    photograph: Annotated[Path | None, typer.Option(help="a fundus photograph; a phantom if not given")] = None,
    seed: Annotated[int, typer.Option(help="seed of all random draws")] = 0,
) -> None:
    """Draw the gallery."""
    out.mkdir(parents=True, exist_ok=True)
    load = Compose([LoadImage(ensure_channel_first=True), Orientation("LAS", labels=None)])
    head = load(mri) if mri else load_mni152_template(resolution=1).get_fdata(dtype=np.float32)[None]
    draw(head, MRI_SHIFTS, out / "mri.png", (float(head.min()), float(np.quantile(head, 0.999))), seed)
    draw(load(ct) if ct else ct_phantom((96, 96, 40)).image, CT_SHIFTS, out / "ct.png", (-160, 240), seed)
    eye = plt.imread(photograph)[..., :3].transpose(2, 0, 1) / 255 if photograph else fundus_phantom((256, 256)).image
    draw(eye, FUNDUS_SHIFTS, out / "fundus.png", (0, 1), seed)


if __name__ == "__main__":
    typer.run(main)
