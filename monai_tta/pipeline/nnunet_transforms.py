"""nnU-Net's own reading, preprocessing and export as transforms of a dictionary, as bundles have them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.nnunet_files import Cases

PROPERTIES = "nnunet_properties"  # what nnU-Net's reader says of a case, and its export needs
_FURTHEST = 0.1  # of a voxel: how far apart the corners of a case's channels may lie


@dataclass(frozen=True, eq=False)
class Plan:
    """What nnU-Net knows of one trained configuration.

    Args:
        plans: its ``PlansManager``.
        configuration: its ``ConfigurationManager``.
        dataset: the content of dataset.json.
        cases: which files are a case.
        head: what the network's channels stand for: "sigmoid" for regions, which may overlap.
    """

    plans: Any
    configuration: Any
    dataset: dict[str, Any]
    cases: Cases
    head: Literal["softmax", "sigmoid"]


class LoadNnUNetCased:
    """Read a case by nnU-Net's reader: ``image`` becomes ``(C, *spatial)`` in the order of its axes, all channels of the case.

    Args:
        plan: of the trained configuration.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reader = plan.plans.image_reader_writer_class()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Read the case that ``data["image"]``, a path, belongs to.

        Raises:
            ValueError: for files that make no case of this network.
        """
        first = Path(data["image"])
        files = self.plan.cases.files(first)
        for file in files:
            check_input_file(file)
        _check_same_place(files)
        voxels, properties = self.reader.read_images([str(file) for file in files])
        if len(voxels) != len(self.plan.cases.channels):
            raise ValueError(f"{first.name} holds {len(voxels)} channels; this network takes {len(self.plan.cases.channels)}")
        meta = {PROPERTIES: properties, "filename_or_obj": str(first)}
        spacing = [float(size) for size in properties["spacing"]]
        image = MetaTensor(torch.from_numpy(voxels), affine=torch.diag(torch.tensor([*spacing, 1.0])), meta=meta)
        return {**data, "image": image}


class PrepareNnUNetCased:
    """nnU-Net's preprocessing of a case that was read: axes, cropping, normalisation, spacing.

    Args:
        plan: of the trained configuration.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.preprocessor = plan.configuration.preprocessor_class(verbose=False)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Prepare ``data["image"]``; what the export needs is in ``data`` afterwards."""
        plan = self.plan
        read = data["image"]
        given = (read.as_tensor().numpy(), None, copy.deepcopy(read.meta[PROPERTIES]))
        voxels, _, properties = self.preprocessor.run_case_npy(*given, plan.plans, plan.configuration, plan.dataset)
        image = torch.from_numpy(voxels).to(dtype=torch.float32, memory_format=torch.contiguous_format)
        spacing = [properties["spacing"][axis] for axis in plan.plans.transpose_forward]
        spacing[-len(plan.configuration.spacing) :] = plan.configuration.spacing
        if spacing[0] < 500 * min(spacing[1:]):  # of a single picture nnU-Net makes a slice that is 999 pixels thick
            image = MetaTensor(image, affine=torch.diag(torch.tensor([*map(float, spacing), 1.0])))
        return {**data, "image": image, PROPERTIES: properties, "case": Path(read.meta["filename_or_obj"])}


class ExportNnUNetCased:
    """nnU-Net's export: spacing, regions or classes, cropping and axes undone, written by its writer as ``CASE_seg``.

    Args:
        plan: of the trained configuration.
        folder: where masks are written.

    ``head`` is what the network's channels stand for.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.head = plan.head

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Write the mask of ``data["pred"]``, logits ``(K, *spatial)``."""
        from nnunetv2.inference.export_prediction import export_prediction_from_logits

        plan = self.plan
        logits = torch.as_tensor(data["pred"]).detach().cpu().numpy()
        mask = self.folder / f"{plan.cases.name(data['case'])}_seg"
        threads = torch.get_num_threads()
        export_prediction_from_logits(
            logits, data[PROPERTIES], plan.configuration, plan.plans, plan.dataset, str(mask), num_threads_torch=threads
        )
        return data


def _check_same_place(files: list[Path]) -> None:
    """Refuse channels of different size or place. nnU-Net only prints that their places differ, and lays them over each other.

    Raises:
        ValueError: with the file that differs from the first one.
    """
    if len(files) < 2:
        return
    first = _corners(files[0])
    for file in files[1:]:
        size, corners, step = _corners(file)
        if size != first[0]:
            raise ValueError(f"{file.name} has {size} voxels and {files[0].name} {first[0]}: channels of one case have one size")
        if np.abs(corners - first[1]).max() > _FURTHEST * min(step, first[2]):
            raise ValueError(f"{file.name} does not lie where {files[0].name} does; resample one of them to the other")


def _corners(file: Path) -> tuple[tuple[int, ...], np.ndarray, float]:
    """An image's size, the world coordinates of its corners, and its smallest voxel size."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a kind of file that only nnU-Net's own reader knows; that one compares sizes
        return (), np.zeros((1, 1)), 1.0
    size = reader.GetSize()
    axes = np.reshape(reader.GetDirection(), (len(size), -1)) * reader.GetSpacing()
    places = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij"), -1).reshape(-1, len(size))
    return size, np.asarray(reader.GetOrigin()) + places @ axes.T, min(reader.GetSpacing())
