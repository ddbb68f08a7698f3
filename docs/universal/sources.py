"""Source centres: labelled images of several tasks, real where a folder with them is given, drawn otherwise."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from monai_tta.core.objectives import Head
from monai_tta.transforms import phantoms, shift_fundus

SIDE = 160
Pair = tuple[Tensor, Tensor]  # image (C, x, y), one channel for each structure (K, x, y)


@dataclass(frozen=True)
class Centre:
    """Labelled images of one task. The first ``train`` of them train a network; all of them calibrate it, the others first.

    ``preserve`` is that of `monai_tta.preparation.distortions.Distortion`.
    """

    task: str
    images: Callable[[], Sequence[Pair]]
    train: int
    head: Head = "sigmoid"
    preserve: str = "range"


def photographs(folder: Path) -> list[Pair]:
    """Fundus photographs and masks (``images``, ``labels``, in the same order by name), padded to squares of `SIDE` pixels."""
    files = [sorted((folder / part).iterdir()) for part in ("images", "labels")]
    return [_photograph(a, b) for a, b in zip(*files, strict=True)]


def _photograph(image: Path, label: Path) -> Pair:
    picture = Image.open(image).convert("RGB")
    mask = Image.open(label).convert("L")
    width, height = picture.size
    side = max(width, height)
    square = ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
    values = np.asarray(picture.crop(square).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255
    coverage = np.asarray(mask.crop(square).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    # Vessels are thinner than a pixel of this size: a fifth of one is enough.
    structure = coverage > 0.2 * max(float(coverage.max()), 1)
    return torch.from_numpy(values.transpose(2, 0, 1).copy()), torch.from_numpy(structure)[None].float()


def hippocampi(folder: Path, split: str = "source_train") -> list[Pair]:
    """The sagittal slice with the most hippocampus of each case, z-scored, as 64 x 64 pixels; anterior and posterior."""
    with (folder / "split.csv").open(newline="", encoding="utf-8") as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == split]
    pairs = []
    for name in names:
        volume, label = (np.asarray(nib.load(folder / part / f"{name}.nii.gz").dataobj) for part in ("images", "labels"))
        place = int((label > 0).sum((1, 2)).argmax())
        image = torch.from_numpy((volume - volume.mean()) / volume.std()).float()[place]
        mask = torch.from_numpy(np.stack([label[place] == 1, label[place] == 2]).astype(np.float32))
        pairs.append((sized(image[None], 64, "bilinear"), sized(mask, 64, "nearest")))
    return pairs


def sized(picture: Tensor, side: int, mode: str) -> Tensor:
    """``(C, x, y)`` in this many pixels a side."""
    return interpolate(picture[None], (side, side), mode=mode)[0]


def fundi(scanner: str = "reference", seeds: Sequence[int] = range(60)) -> list[Pair]:
    """Drawn retinas: disc and cup."""
    drawn = [phantoms.fundus_phantom((SIDE, SIDE), seed, scanner) for seed in seeds]
    return [(phantom.image, phantom.label) for phantom in drawn]


def lesions(scanner: str = "reference", seeds: Sequence[int] = range(120)) -> list[Pair]:
    """Drawn lesions of all sizes."""
    drawn = [phantoms.lesion_phantom((SIDE, SIDE), seed, scanner) for seed in seeds]
    return [(phantom.image, phantom.label) for phantom in drawn]


def heads(scanner: str = "reference", seeds: Sequence[int] = range(60)) -> list[Pair]:
    """Slices of drawn heads: the nuclei, z-scored."""
    pairs = []
    for seed in seeds:
        phantom = phantoms.mri_phantom((48, 48, 48), seed, scanner)
        place = int(phantom.label[0].sum((0, 1)).argmax())
        z_scores = (phantom.image - phantom.image.mean()) / phantom.image.std()
        nuclei = (phantom.label[..., place] > 0).float()
        pairs.append((sized(z_scores[..., place], 96, "bilinear"), sized(nuclei, 96, "nearest")))
    return pairs


def abdomens(scanner: str = "reference", seeds: Sequence[int] = range(60)) -> list[Pair]:
    """Slices of drawn abdomens: liver and spleen, in an HU window."""
    pairs = []
    for seed in seeds:
        phantom = phantoms.ct_phantom((64, 64, 32), seed, scanner)
        organs = torch.stack([phantom.label[0] == 1, phantom.label[0] == 2]).float()
        weights = torch.tensor([1.0, 4.0]).view(2, 1, 1, 1)  # the spleen is small
        place = int((organs * weights).sum((0, 1, 2)).argmax())
        window = ((phantom.image + 160) / 400).clamp(0, 1)
        pairs.append((sized(window[..., place], 96, "bilinear"), sized(organs[..., place], 96, "nearest")))
    return pairs


def centres(vessels: Path | None, discs: Path | None, hippocampus: Path | None) -> dict[str, Centre]:
    """All source centres that there are images for."""
    found = {
        "drawn-fundus": Centre("drawn-fundus", cache(fundi), 40),
        "drawn-lesion": Centre("drawn-lesion", cache(lesions), 90),
        "drawn-head": Centre("drawn-head", cache(heads), 40, preserve="moments"),
        "drawn-abdomen": Centre("drawn-abdomen", cache(abdomens), 40, head="softmax"),
    }
    if vessels is not None:
        found["chase_db1"] = Centre("vessels", cache(lambda: photographs(vessels / "chase_db1")), 20)
        found["hrf"] = Centre("vessels", cache(lambda: photographs(vessels / "hrf")), 22)
    if discs is not None:
        found["idrid"] = Centre("disc", cache(lambda: photographs(discs)), 14)
    if hippocampus is not None:
        found["hippocampus"] = Centre("hippocampus", cache(lambda: hippocampi(hippocampus)), 80, "softmax", "moments")
    return found


DRAWN = {"drawn-fundus": fundi, "drawn-lesion": lesions, "drawn-head": heads, "drawn-abdomen": abdomens}
CAMERAS = ("Illumination", "ColourCast", "Haze", "Focus", "CameraGamma", "Compression")


def targets(name: str, all_centres: dict[str, Centre], hippocampus: Path | None) -> Iterator[tuple[str, bool, Sequence[Pair]]]:
    """What a centre's networks segment: a label, whether it is another scanner, and labelled images.

    These are the centre's own images that did not train; drawn patients from other scanners; the other centre of the same task;
    and the centre's own photographs by six simulated cameras.
    """
    centre = all_centres[name]
    own = centre.images()[centre.train :]
    yield "its own", False, own
    for scanner in ("dim", "uneven", "noisy", "soft") if name in DRAWN else ():
        yield f"drawn, {scanner}", True, DRAWN[name](scanner, range(1000, 1030))
    for other, found in all_centres.items():
        if other != name and found.task == centre.task:
            yield other, True, found.images()
    if name == "idrid":
        yield "drawn-fundus", True, [(x, y[:1]) for x, y in fundi("reference", range(1000, 1030))]
    if name == "hippocampus" and hippocampus is not None:
        yield "target (no shift)", False, hippocampi(hippocampus, "target")
    if name in ("chase_db1", "hrf", "idrid"):
        kinds = [getattr(shift_fundus, f"{kind}Shift") for kind in CAMERAS]
        yield "six cameras", True, [(torch.as_tensor(kind(3, k)(x)), y) for k, (x, y) in enumerate(own[:6]) for kind in kinds]
