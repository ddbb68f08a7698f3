"""Labelled cases for an nnU-Net: a raw dataset folder of nnU-Net, scored in the voxels of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_tta.evaluation.labelled_data import SEEDS_PER_RUN, LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol
from monai_tta.pipeline.bundle_config import BundleError
from monai_tta.pipeline.case_file import check_same_geometry, write_case_file
from monai_tta.pipeline.case_lists import ListedCase
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.find_images import PICTURES
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.load_image import read_image
from monai_tta.pipeline.nnunet_folder import read_plan
from monai_tta.pipeline.nnunet_transforms import PROPERTIES, LoadNnUNetCased, Plan, PrepareNnUNetCased, SegmentNnUNetCased
from monai_tta.pipeline.value_range import ExpectedRange

LABELLED = "labelled"
_PARTS = (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))  # as nnU-Net calls them
_SHIFTS = {  # by nnU-Net's name for how the images are normalised: a style of restyling, and simulated scanners
    "ZScoreNormalization": ("mri", "shift_mri", ("BiasFieldShift", "ContrastShift", "BlurNoiseShift")),
    "CTNormalization": ("ct", "shift_ct", ("SoftKernelShift", "LowDoseShift", "CalibrationShift")),
}


class NnUNetLabelledDomain(LabelledDomain):
    """The labelled cases of a raw dataset folder, ``imagesTr`` with ``labelsTr`` and ``imagesTs`` with ``labelsTs``.

    Args:
        root: the model folder.
        dataset_dir: the dataset's folder.
        domain: whether and how its images are seen through a simulated scanner.

    Attributes:
        groups: None for each case.
        digest: a hash of the list of cases. It tells lists apart and holds no name.
        images: a hash of the list of images.

    Raises:
        BundleError: for a folder without labelled cases, or with other labels than the network's.
    """

    def __init__(self, root: Path, dataset_dir: Path, domain: Domain) -> None:
        self.domain = domain
        self.plan, _ = read_plan(root)
        self.protocol = nnunet_protocol(root)
        _check_labels(self.plan, dataset_dir)
        ending = self.plan.cases.ending
        self.items: list[dict[str, Any]] = [
            {"image": dataset_dir / images / f"{label.name.removesuffix(ending)}_0000{ending}", "label": label}
            for images, labels in _PARTS
            for label in sorted((dataset_dir / labels).glob(f"*{ending}"))
        ]
        if not self.items:
            raise BundleError(
                f"{dataset_dir} has no labels of nnU-Net: give a folder of nnUNet_raw, with images *_0000{ending} in imagesTr "
                f"and labels *{ending} in labelsTr"
            )
        self._tell_apart(dataset_dir)
        self._load = LoadNnUNetCased(self.plan)
        self._prepare = PrepareNnUNetCased(self.plan)

    def case(self, number: int, seed: int = 0) -> dict[str, Any]:
        """Load and prepare one case; the simulated scanner stands before nnU-Net's normalisation.

        Args:
            number: from 0.
            seed: of the run. Number and seed together are the simulated scanner's seed.

        Raises:
            BundleError: for a case that cannot be read or prepared.
        """
        try:
            image, label = self.read(self.items[number])
            for scanner in self._scanner(number + SEEDS_PER_RUN * seed):
                image = _through(scanner, image)
            return self._prepare({"image": image}) | {"label": label, "loaded": image}
        except Exception as error:
            raise BundleError(f"case {number} of {self.domain.label!r} cannot be read: {describe_error(error)}") from error

    def label_of_image(self, case: dict[str, Any]) -> torch.Tensor:
        """The label on the grid of the prepared image: class numbers ``(1, *spatial)``, or a channel for each region.

        Args:
            case: what `case` returned.

        Raises:
            ValueError: for a label that leaves voxels open.
        """
        return self.prepared(case["loaded"], case["label"])[1]

    def prepared(self, image: MetaTensor, label: MetaTensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An image and its label through nnU-Net's preprocessing, on one grid.

        Args:
            image: as `read` returned it.
            label: likewise.

        Returns:
            the image ``(C, *spatial)``, and class numbers ``(1, *spatial)`` or a channel for each region.

        Raises:
            ValueError: for a label that leaves voxels open.
        """
        ignored = self.plan.dataset["labels"].get("ignore")
        if ignored is not None and bool((label == ignored).any()):
            raise ValueError("its label leaves voxels open ('ignore'), so no window's Dice is known")
        data = self._prepare({"image": image, "label": label})
        found = data["label"]
        if self.plan.head == "sigmoid":
            found = _masks_of(found[0].long(), [values for _, values in structures_of(self.plan.dataset)]).float()
        return data["image"], found

    def postprocessing(self) -> Any:
        """nnU-Net's own way to a mask, and binary channels of its structures, of the answer and of the label."""
        return Compose([SegmentNnUNetCased(self.plan), _Structures(self.plan.dataset)])

    def read(self, item: Mapping[str, Path]) -> tuple[MetaTensor, MetaTensor]:
        """A case's image ``(C, *spatial)`` and label ``(1, *spatial)``, in the voxels of their files.

        Args:
            item: one of ``items``.

        Raises:
            ValueError: for files that cannot be read, or do not lie on each other.
        """
        files = self.plan.cases.files(item["image"])
        check_input_file(item["label"])
        if not item["label"].name.lower().endswith(PICTURES):
            check_same_geometry([files[0], item["label"]])
        with TemporaryDirectory() as folder:
            case = write_case_file(ListedCase("case", tuple(files)), Path(folder))
            image = read_image(case, self._load, ExpectedRange(len(self.plan.cases.channels))).data["image"]
        values, _ = self._load.reader.read_seg(str(item["label"]))
        flat = image.ndim == 3
        label = torch.from_numpy(np.ascontiguousarray(values[:, 0] if flat else values))
        if label.shape[1:] != image.shape[1:]:
            raise ValueError(f"its label is {tuple(label.shape[1:])} and its image {tuple(image.shape[1:])}")
        sizes = [*map(float, image.meta[PROPERTIES]["spacing"][1:]), 1.0]
        return image, MetaTensor(label, affine=torch.diag(torch.tensor(sizes)) if flat else image.affine)


def _through(scanner: Any, image: MetaTensor) -> MetaTensor:
    """An image through a simulated scanner, channel by channel: each has a scale of its own."""
    others_way = range(image.ndim - 1, 0, -1)  # nnU-Net has slices first, and simulated scanners have them last
    shifted = image.clone()
    for channel in range(len(image)):
        turned = image.as_tensor()[channel : channel + 1].permute(0, *others_way)
        shifted[channel] = torch.as_tensor(scanner({"image": turned})["image"])[0].permute(*(axis - 1 for axis in others_way))
    return shifted


def _masks_of(mask: torch.Tensor, structures: Sequence[frozenset[int]]) -> torch.Tensor:
    """Which voxels of a mask ``(*spatial)`` each structure holds, ``(structures, *spatial)``."""
    return torch.stack([torch.isin(mask, torch.tensor(sorted(values))) for values in structures])


class _Structures:
    """Binary channels of a mask's structures, and the image in the voxels of its file in place of the prepared one.

    Structures that exclude each other come with the background first; regions may overlap. What the label leaves open (nnU-Net's
    label "ignore") counts as background in both.
    """

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        self.structures = [values for _, values in structures_of(dataset)]
        self.ignored = dataset["labels"].get("ignore")
        self.are_exclusive = len(set().union(*self.structures)) == sum(map(len, self.structures))

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        label = data["label"].as_tensor()[0]
        counts = torch.ones_like(label, dtype=torch.bool) if self.ignored is None else label != self.ignored
        found = {"pred": torch.as_tensor(data["pred"])[0], "label": label}
        made = {k: MetaTensor(self._channels(mask, counts), affine=data["label"].affine) for k, mask in found.items()}
        return {**data, **made, "image": data["loaded"]}

    def _channels(self, mask: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        found = _masks_of(mask, self.structures) & counts
        return (torch.cat([~found.any(0, keepdim=True), found]) if self.are_exclusive else found).float()


def structures_of(dataset: Mapping[str, Any]) -> list[tuple[str, frozenset[int]]]:
    """The structures of a ``dataset.json``: names, and which values of a label they have. A region has several.

    Args:
        dataset: its content.
    """
    found = []
    for name, value in dataset["labels"].items():
        values = frozenset(map(int, value)) if isinstance(value, list | tuple) else frozenset([int(value)])
        if name != "ignore" and values != {0}:
            found.append((str(name), values))
    return found


def nnunet_protocol(root: Path) -> Protocol:
    """What a model folder is compared on, in place of a bundle's ``configs/compare.yaml``: the labelled cases, and simulated
    scanners where nnU-Net's normalisation tells MR or CT.

    Args:
        root: the model folder.

    Raises:
        BundleError: for one that cannot be read.
    """
    plan, mirrors = read_plan(root)
    schemes = set(plan.configuration.normalization_schemes)
    is_flat = plan.cases.colours
    known = _SHIFTS.get(schemes.pop()) if len(schemes) == 1 and not is_flat else None
    style, module, names = known or ("auto", "", ())
    shifts = [Domain(f"{name} 3", shift=f"monai_tta.transforms.{module}.{name}") for name in names]
    return Protocol(
        domains=(Domain(LABELLED), *shifts),
        style=style,
        mirrors=mirrors,
        before=("PrepareNnUNetCased",),
        labels=tuple(name for name, _ in structures_of(plan.dataset)),
        unit="pixels" if is_flat else "mm",
    )


def _check_labels(plan: Plan, dataset_dir: Path) -> None:
    """Refuse a dataset that says its labels are others than the network's."""
    file = dataset_dir / "dataset.json"
    if not file.is_file():
        return
    try:
        found = dict(structures_of(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} does not say what its labels are: {describe_error(error)}") from error
    own = dict(structures_of(plan.dataset))
    if found != own:
        words = [", ".join(f"{name} {sorted(values)}" for name, values in labels.items()) for labels in (found, own)]
        raise BundleError(f"{file} has the labels {words[0]}; the network's are {words[1]}")
