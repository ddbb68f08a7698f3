"""From an MRI to a picture of both masks, unadapted and adapted: `python -m docs.gallery.mri IMAGE.nii.gz PICTURE.png`."""

import sys

import matplotlib.pyplot as plt
import torch

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import load_bundle

scan, picture = sys.argv[1:]
bundle = load_bundle(BUNDLE)
image = bundle.parser.get_parsed_content("preprocessing")({"image": scan})["image"]

inferer = AdaptiveInferer(inferer=bundle.inferer, method=GraTa(), head="softmax")
with torch.no_grad():
    unadapted = bundle.inferer(image[None], bundle.network).argmax(1)[0]
    adapted = inferer(image[None], bundle.network).argmax(1)[0]

middle = image.shape[1] // 2
figure, axes = plt.subplots(1, 2)
for axis, mask, name in zip(axes, (unadapted, adapted), ("unadapted", "adapted"), strict=True):
    axis.imshow(image[0, middle].T, cmap="gray", origin="lower")
    if (mask[middle] > 0).any():
        axis.contour(mask[middle].T > 0, [0.5], colors="tab:orange")
    axis.set_title(f"{name}: {int((mask > 0).sum())} voxels")
figure.savefig(picture, bbox_inches="tight")
