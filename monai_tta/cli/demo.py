"""The first picture: a real image no one trained on, segmented plain and adapted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_tta.core.record import Case
from monai_tta.methods import GraTa, Source
from monai_tta.pipeline.bundle import BUNDLES, load_bundle
from monai_tta.pipeline.segment import segment, write_records

BUNDLE = BUNDLES / "hippocampus_mri"
CENTRES = {"right": (27, -22, -14), "left": (-27, -22, -14)}  # mm, RAS
BOX = (40, 56, 40)  # mm, which are voxels here


@dataclass(frozen=True)
class Region:
    """What was found on one side; voxels are mm³ here, ``changed`` is a share of them."""

    region: str
    plain_voxels: int
    adapted_voxels: int
    changed_fraction: float
    plain: Case
    adapted: Case


def template() -> Any:
    """The ICBM-152 T1 template (1 mm, RAS) that ships inside nilearn; nothing is downloaded.

    Raises:
        ImportError: when nilearn is not installed.
    """
    try:
        from nilearn.datasets import struct
    except ImportError as error:
        raise ImportError("the demo's image ships inside nilearn: pip install 'monai-tta[demo]'") from error
    return _read(struct.MNI152_FILE_PATH)


def make_demo(out: Path, advance: Callable[[], None] = lambda: None) -> list[Region]:
    """Segment both hippocampi plain and adapted; write masks, pictures and records into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    image = template()
    bundle = load_bundle(BUNDLE)
    grata = GraTa()
    whole = {name: np.zeros(image.shape, np.uint8) for name in ("plain", "adapted")}
    regions, cases = [], []
    for region, centre in CENTRES.items():
        start = np.round(np.linalg.inv(image.affine) @ [*centre, 1])[:3].astype(int) - np.array(BOX) // 2
        place = tuple(slice(a, a + n) for a, n in zip(start, BOX, strict=True))
        crop = out / f"{region}.nii.gz"
        nib.save(image.slicer[place], crop)
        masks, records = {}, {}
        for name, method in (("plain", Source()), ("adapted", grata)):
            outcome = list(segment(bundle, [crop], out / name, method))[0]
            if outcome.case is None:
                raise RuntimeError(f"{region}: {outcome.error}")
            records[name] = outcome.case
            masks[name] = np.asarray(_read(outcome.masks[0]).dataobj).astype(np.uint8)
            whole[name][place] = masks[name]
        cases.append(records["adapted"])
        _draw(np.asarray(image.dataobj[place]), masks["plain"], masks["adapted"], out / f"{region}.png", region)
        plain, adapted = masks["plain"] > 0, masks["adapted"] > 0
        changed_fraction = float((masks["plain"] != masks["adapted"]).mean())
        found = (int(plain.sum()), int(adapted.sum()), changed_fraction)
        regions.append(Region(region, *found, records["plain"], records["adapted"]))
        advance()
    for name, mask in whole.items():
        nib.save(nib.Nifti1Image(mask, image.affine), out / f"{name}_mask.nii.gz")
    write_records(cases, out / "records.json")
    return regions


def _draw(image: Any, plain: Any, adapted: Any, path: Path, region: str) -> None:
    """Three planes: the image with both outlines, and where the answers differ."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    either = (plain > 0) | (adapted > 0)
    spot = [int(round(v.mean())) for v in np.nonzero(either)] if either.any() else [n // 2 for n in image.shape]
    figure, axes = plt.subplots(2, 3, figsize=(10, 7))
    for axis, title in enumerate(("sagittal", "coronal", "axial")):
        cut = [np.take(a, spot[axis], axis).T for a in (image, plain, adapted)]
        for row in range(2):
            axes[row, axis].imshow(cut[0], cmap="gray", origin="lower")
            axes[row, axis].set_axis_off()
        for mask, colour in ((cut[1], "tab:orange"), (cut[2], "tab:cyan")):
            if (mask > 0).any() and not (mask > 0).all():
                axes[0, axis].contour(mask > 0, [0.5], colors=colour, linewidths=1.2)
        differ = cut[1] != cut[2]
        axes[1, axis].imshow(np.ma.masked_equal(differ, False), cmap="autumn", origin="lower", vmin=0, vmax=1)
        axes[0, axis].set_title(title)
    changed_fraction = (plain != adapted).sum()
    figure.suptitle(
        f"{region} hippocampus: plain (orange), adapted by GraTa (cyan); below, the {changed_fraction} voxels that differ"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _read(path: Path | str) -> Any:
    return nib.load(path)
