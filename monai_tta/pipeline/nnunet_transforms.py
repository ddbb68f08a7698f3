"""nnU-Net's own reading, preprocessing and export as transforms of a dictionary, as bundles have them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import create_file_basename
from torch import Tensor

from monai_tta.pipeline.ask_itk import is_text, itk_header
from monai_tta.pipeline.declared_place import Numbers, ras_affine_of_itk
from monai_tta.pipeline.nnunet_files import Cases

PROPERTIES = "nnunet_properties"  # what nnU-Net's reader says of a case, and its export needs
_AS_READ = "nnunet_affine"  # the affine that a case was read with, in its meta data
_FILE = "filename_or_obj"  # as MONAI's readers call it
_CASE = "nnunet_case"  # the key of the file that a mask is named after
_DTYPE = "nnunet_dtype"  # of the mask
_THICK = 500  # nnU-Net makes of a single picture a slice that is 999 pixels thick


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

    A single picture becomes ``(C, height, width)``.

    Args:
        plan: of the trained configuration.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reader = plan.plans.image_reader_writer_class()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Read the file or files that ``data["image"]`` names, one for each channel.

        Raises:
            ValueError: for files that make no case of this network.
        """
        given = data["image"]
        files = [str(file) for file in ([given] if isinstance(given, str | Path) else given)]
        if not all(is_text(Path(file)) for file in files):
            raise ValueError("the name of its file is no text, and nnU-Net's reader takes no other; rename it")
        voxels, properties = self.reader.read_images(files)
        wanted = self.plan.cases.channels
        if len(voxels) != len(wanted):
            raise ValueError(f"it holds {len(voxels)} channels; this network takes {len(wanted)}: {', '.join(wanted)}")
        meta = {PROPERTIES: properties, _FILE: files[0], **_original_affine(Path(files[0]), properties)}
        if _is_picture(voxels.shape[1:], properties["spacing"]):
            image = MetaTensor(torch.from_numpy(voxels[:, 0]), meta=meta)
        else:
            image = MetaTensor(torch.from_numpy(voxels), affine=_affine_of(properties), meta=meta)
        image.meta[_AS_READ] = image.affine.clone()
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
        """Prepare ``data["image"]``; what the export needs is in ``data`` afterwards.

        A label ``(1, *spatial)`` that lies on the image is prepared along with it: class numbers, where 0 is the background.
        """
        plan = self.plan
        read = data["image"]
        found = read.as_tensor().numpy()
        properties = copy.deepcopy(read.meta[PROPERTIES])
        properties["spacing"] = _spacing_now(read, properties["spacing"])
        label = torch.as_tensor(data["label"]).numpy() if "label" in data else None
        given = (_in_slices(found), None if label is None else _in_slices(label), properties)
        voxels, label, properties = self.preprocessor.run_case_npy(*given, plan.plans, plan.configuration, plan.dataset)
        image = torch.from_numpy(voxels).to(dtype=torch.float32, memory_format=torch.contiguous_format)
        spacing = [properties["spacing"][axis] for axis in plan.plans.transpose_forward]
        spacing[-len(plan.configuration.spacing) :] = plan.configuration.spacing
        if found.ndim == 4 and spacing[0] < _THICK * min(spacing[1:]):
            image = MetaTensor(image, affine=torch.diag(torch.tensor([*map(float, spacing), 1.0])))
        image = _with_origin(image, read)
        # nnU-Net marks what it would crop away with -1.
        more = {} if label is None else {"label": torch.from_numpy(label).float().clamp(min=0)}
        return {**data, **more, "image": image, PROPERTIES: properties, _CASE: {_FILE: read.meta[_FILE]}}


def _in_slices(voxels: Any) -> Any:
    """Voxels ``(C, *spatial)`` with the axis of slices that nnU-Net also gives a single picture."""
    return voxels if voxels.ndim == 4 else voxels[:, None]


class SegmentNnUNetCased:
    """nnU-Net's way from logits to a mask on the grid of the image that was read: spacing, regions or classes, cropping and axes.

    Args:
        plan: of the trained configuration.

    ``head`` is what the network's channels stand for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.head = plan.head

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Make of ``data["pred"]``, logits ``(K, *spatial)``, a mask ``(1, *spatial)``; of a picture ``(1, height, width)``."""
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as convert

        plan = self.plan
        logits = torch.as_tensor(data["pred"]).detach().cpu().numpy()
        labels = plan.plans.get_label_manager(plan.dataset)
        threads = torch.get_num_threads()
        properties = data[PROPERTIES]
        mask = convert(logits, plan.plans, plan.configuration, labels, properties, num_threads_torch=threads)
        found = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.int32 if mask.dtype == np.uint16 else mask.dtype))
        is_picture = _is_picture(mask.shape, properties["spacing"])
        return {**data, "pred": found if is_picture else found[None], _DTYPE: mask.dtype}


class SaveNnUNetCased:
    """Write a mask by nnU-Net's writer, as ``CASE_seg``.

    Args:
        plan: of the trained configuration.
        folder: where masks are written.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.writer = plan.plans.image_reader_writer_class()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Write ``data["pred"]``, a mask ``(1, *spatial)``."""
        mask = torch.as_tensor(data["pred"]).numpy().astype(data[_DTYPE], copy=False)
        name = create_file_basename("seg", Path(data[_CASE][_FILE]).name, self.folder, separate_folder=False)
        self.writer.write_seg(mask if mask.ndim == 3 else mask[0], f"{name}{self.plan.cases.ending}", data[PROPERTIES])
        return data


def _is_picture(shape: tuple[int, ...], spacing: Any) -> bool:
    """Whether voxels are a single slice that nnU-Net's reader gave a made-up thickness."""
    return shape[0] == 1 and spacing[0] >= _THICK * min(spacing[1:])


def _affine_of(properties: dict[str, Any]) -> Tensor:
    """The affine ``(4, 4)`` in RAS of what nnU-Net's reader returned, whose axes are those of the file the other way round."""
    if "sitk_stuff" in properties:
        stuff = properties["sitk_stuff"]
        n = len(stuff["spacing"])
        used = min(n, 3)
        affine = np.eye(4)
        axes = np.reshape(stuff["direction"], (n, n))[:used, :used] * np.asarray(stuff["spacing"])[:used]
        affine[:used, :used], affine[:used, 3] = axes, np.asarray(stuff["origin"])[:used]
        affine = np.diag([-1.0, -1, 1, 1]) @ affine
    elif "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        affine = np.array(stuff.get("reoriented_affine", stuff["original_affine"]), float)
    else:  # a kind of file without a place
        return torch.diag(torch.tensor([*map(float, properties["spacing"]), 1.0], dtype=torch.float64))
    return torch.from_numpy(affine[:, [2, 1, 0, 3]].copy())


def _original_affine(file: Path, properties: dict[str, Any]) -> dict[str, Numbers]:
    """Where the reader found the file's voxels, as meta data; empty where it does not say.

    nnU-Net's readers use SimpleITK or nibabel.
    """
    if "nibabel_stuff" in properties:
        return {"original_affine": np.array(properties["nibabel_stuff"]["original_affine"], float)}
    header = itk_header(file) if "sitk_stuff" in properties else None
    if header is None:
        return {}
    affine = ras_affine_of_itk(header)
    known = [0, 1, 3] if header.GetDimension() == 2 else [0, 1, 2, 3]  # ITK knows no third axis of a flat image
    return {"original_affine": affine[np.ix_(known, known)]}


def _spacing_now(image: MetaTensor, spacing: Any) -> Any:
    """The spacing that nnU-Net's reader found, times what a correction of the input has made of it."""
    before, now = image.meta[_AS_READ], image.affine
    if torch.equal(torch.as_tensor(before), now.to(before)):
        return spacing
    factors = now[:-1, :-1].norm(dim=0) / before[:-1, :-1].norm(dim=0)
    return [float(size) * float(factor) for size, factor in zip(spacing, factors, strict=True)]


def _with_origin(image: Tensor, read: MetaTensor) -> Tensor:
    """A prepared image whose meta data says where the file's voxels are, as `check_loaded_place` wants it."""
    if "original_affine" in read.meta:
        no_sizes = torch.eye(3)  # of the three axes of a picture that is a slice
        image = image if isinstance(image, MetaTensor) else MetaTensor(image, affine=no_sizes)
        image.meta["original_affine"] = read.meta["original_affine"]
    return image
