"""Which views count for the small networks: `python -m docs.universal.views OUT ...`, with the options of docs.universal.

Each network is trained, and answers those images of its centre that did not train it in each pose.
"""

import torch
from monai.inferers import SimpleInferer

from docs.universal.__main__ import console, parse_command_line
from docs.universal.networks import KINDS, train
from docs.universal.sources import centres
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.labelled_images import UsableImage, own_answer
from monai_tta.preparation.source_views import measured_views


def main() -> None:
    """See the top of this file."""
    options, folders = parse_command_line("docs.universal.views")
    torch.set_num_threads(1)
    for name, centre in centres(**folders).items():
        for kind in KINDS[name]:
            if options.only and f"{name} {kind}" not in options.only:
                continue
            network = train(name, centre, kind)
            images = [image for image, _ in centre.images()[centre.train :]]
            answered = [UsableImage(image, own_answer(network, SimpleInferer(), image, centre.head), network) for image in images]
            views, agreement = measured_views(CalibrationSettings(), answered, SimpleInferer(), centre.head)
            console.print(f"{name} {kind}: {agreement}; {views}")


if __name__ == "__main__":
    main()
