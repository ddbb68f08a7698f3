"""From a fundus photograph to a picture of its vessels, unadapted and adapted: `python -m docs.gallery.fundus JPG PNG`."""

import sys

import matplotlib.pyplot as plt
import torch

from monai_tta import AdaptiveInferer, GraTa
from monai_tta.cli.demo import BUNDLE
from monai_tta.pipeline.bundle import load_bundle

photograph, picture = sys.argv[1:]
bundle = load_bundle(BUNDLE.parent / "vessel_fundus")
image = bundle.parser.get_parsed_content("preprocessing")({"image": photograph})["image"]

inferer = AdaptiveInferer(inferer=bundle.inferer, method=GraTa(), head="sigmoid")
with torch.no_grad():
    unadapted = bundle.inferer(image[None], bundle.network)[0, 0] > 0
    adapted = inferer(image[None], bundle.network)[0, 0] > 0

figure, axes = plt.subplots(1, 3, figsize=(12, 4))
shown = (image.permute(2, 1, 0), unadapted.T, adapted.T)
for axis, part, name in zip(axes, shown, ("photograph", "unadapted", "adapted"), strict=True):
    axis.imshow(part, cmap="gray")
    axis.set_title(name if part.ndim == 3 else f"{name}: {int(part.sum())} pixels")
    axis.set_axis_off()
figure.savefig(picture, bbox_inches="tight")
