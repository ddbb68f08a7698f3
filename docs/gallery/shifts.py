"""One picture per modality: each simulated scanner at severity 1, 3 and 5. `python -m docs.gallery.shifts --out DIR`."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from monai.transforms import LoadImage

from monai_tta.phantoms import ct_phantom, fundus_phantom, mri_phantom
from monai_tta.transforms.shift import MRI_SHIFTS
from monai_tta.transforms.shift_ct import CT_SHIFTS
from monai_tta.transforms.shift_fundus import FUNDUS_SHIFTS


def draw(image, shifts, file, limits):
    """Rows are shifts; columns the image as it is, then severities 1, 3, 5."""
    figure, axes = plt.subplots(len(shifts), 4, figsize=(8, 2.1 * len(shifts)))
    for row, shift in zip(axes, shifts, strict=True):
        for axis, severity in zip(row, (0, 1, 3, 5), strict=True):
            x = shift(severity, 0)(image) if severity else image
            cut = np.asarray(x).transpose(2, 1, 0) if x.ndim == 3 else np.asarray(x[0, :, :, x.shape[3] // 2]).T[::-1]
            axis.imshow(cut, cmap="gray", vmin=limits[0], vmax=limits[1])
            axis.set_title(f"{shift.__name__} {severity}" if severity else "as it is", fontsize=7)
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)


def main(
    out: Annotated[Path, typer.Option(help="where the pictures go")] = Path("gallery"),
    ct: Annotated[Path | None, typer.Option(help="a CT in HU; a phantom unless given")] = None,
    photograph: Annotated[Path | None, typer.Option(help="a fundus photograph; a phantom unless given")] = None,
    mri: Annotated[Path | None, typer.Option(help="an MRI; a phantom unless given")] = None,
) -> None:
    """Draw the gallery."""
    out.mkdir(parents=True, exist_ok=True)
    load = LoadImage(ensure_channel_first=True)
    head = load(mri) if mri else mri_phantom((64, 64, 64)).image
    draw(head, MRI_SHIFTS, out / "mri.png", (float(head.min()), float(np.quantile(head, 0.999))))
    draw(load(ct) if ct else ct_phantom((96, 96, 40)).image, CT_SHIFTS, out / "ct.png", (-160, 240))
    eye = load(photograph)[:3] / 255 if photograph else fundus_phantom((256, 256)).image
    draw(eye, FUNDUS_SHIFTS, out / "fundus.png", (0, 1))


if __name__ == "__main__":
    typer.run(main)
