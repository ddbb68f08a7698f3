"""From a CT (NIfTI, or a DICOM folder) to a picture of both masks, unadapted and adapted: `python -m docs.gallery.ct CT PNG`."""

import sys

import matplotlib.pyplot as plt
import torch

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import load_bundle

scan, picture = sys.argv[1:]
bundle = load_bundle(BUNDLE.parent / "abdomen_ct")
image = bundle.parser.get_parsed_content("preprocessing")({"image": scan})["image"]

inferer = AdaptiveInferer(inferer=bundle.inferer, method=GraTa(), head="softmax")
with torch.no_grad():
    unadapted = bundle.inferer(image[None], bundle.network).argmax(1)[0]
    adapted = inferer(image[None], bundle.network).argmax(1)[0]

middle = image.shape[3] // 2
figure, axes = plt.subplots(1, 2)
for axis, mask, name in zip(axes, (unadapted, adapted), ("unadapted", "adapted"), strict=True):
    axis.imshow(image[0, :, :, middle].T, cmap="gray", origin="lower")
    axis.imshow(mask[:, :, middle].T, cmap="tab10", origin="lower", alpha=0.4 * (mask[:, :, middle].T > 0), vmin=0, vmax=9)
    axis.set_title(name)
figure.savefig(picture, bbox_inches="tight")
