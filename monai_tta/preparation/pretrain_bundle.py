"""Train added parameters for a MONAI bundle, on a folder of unlabelled images of its source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from monai_tta.core.added_files import AddedFile
from monai_tta.pipeline.bundle import describe_error, load_bundle
from monai_tta.pipeline.find_images import find_images
from monai_tta.pipeline.load_image import prepare_image
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.labelled_images import plain_tensor
from monai_tta.preparation.pretrain_added import PretrainingSettings, training_steps


def pretrain_bundle(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    settings: PretrainingSettings = PretrainingSettings(),  # noqa: B008
    device: str | None = None,
) -> Iterator[str | int | AddedFile]:
    """Train added parameters on a folder of unlabelled images of a bundle's source, read by its inference config.

    It does what `monai_tta.preparation.pretrain_added.pretrain_added` does, on the bundle's network and inferer. All images are
    held in memory.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder of unlabelled images.
        checkpoint: a file in the bundle's ``models`` folder.
        settings: what to add, and how to train it.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.

    Yields:
        why an image cannot be read, for each such image; after each step, how many are done; at last the trained parameters.

    Raises:
        BundleError: for a bundle that cannot be used.
        ValueError: for a folder without images, or for one of which none can be read.
    """
    bundle = load_bundle(root, checkpoint, device)
    images: list[Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        preprocessing, postprocessing = bundle.transforms(Path(folder))
        for file in find_images([dataset_dir]):
            try:
                images.append(plain_tensor(prepare_image(bundle, preprocessing, file)))
            except Exception as error:  # one bad image must not end the run
                yield f"{file.name}: {describe_error(error)}"
    yield from training_steps(bundle.network, images, head_of(postprocessing), bundle.inferer, settings)
