"""Fine-tune a MONAI bundle's network on scribbled cases of a list, and write a new checkpoint beside the old one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ResampleToMatch
from torch import Tensor

from monai_tta.compute.containers import main_output
from monai_tta.core.objectives import Head, head_of_channels
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.load_image import prepare_image
from monai_tta.pipeline.output_head import head_of
from monai_tta.preparation.finetune_scribbles import Finetuned, FinetuneSettings, HeldOut, check_finetuning, finetune_on_scribbles
from monai_tta.transforms.scribbles import ScribbleToSoftLabeld

__all__ = ["ScribbleValues", "finetune_bundle", "read_scribble_list"]


@dataclass(frozen=True, kw_only=True)
class ScribbleValues:
    """How scribbles are to be read.

    Args:
        values: the value of each class, the background first. None: the structures have the values 1, 2, ... in the order of the
            network's channels, and the background has the next one.
        unmarked: the value of voxels that nobody marked.
        channels: for structures that may overlap: the values in each output channel. None: each structure has its own.
        half_distance: in mm, see `ScribbleToSoftLabel`.
    """

    values: tuple[int, ...] | None = None
    unmarked: int = 0
    channels: tuple[tuple[int, ...], ...] | None = None
    half_distance: float = 2.0

    def transform(self, n_channels: int, head: Head) -> ScribbleToSoftLabeld:
        """The transform that makes soft labels for a network with so many output channels.

        Raises:
            ValueError: for other numbers of values or channels than the network has.
        """
        n_structures = n_channels - 1 if head == "softmax" else n_channels
        values = self.values or (n_structures + 1, *range(1, n_structures + 1))
        channels = self.channels
        if head == "sigmoid" and channels is None:
            channels = tuple((value,) for value in values[1:])
        n_made = len(values) if channels is None else len(channels)
        if n_made != n_channels or (head == "softmax" and channels is not None):
            what = f"{n_channels} classes that exclude each other" if head == "softmax" else f"{n_channels} structures"
            raise ValueError(
                f"the network segments {what}, and the scribbles' values {values} make {n_made} channel(s); give a value for the "
                "background and for each structure, and channels only where structures overlap"
            )
        return ScribbleToSoftLabeld("scribble", values, self.half_distance, self.unmarked, channels)


def read_scribble_list(file: Path) -> list[dict[str, str]]:
    """The cases of a JSON list of objects with ``image`` and ``scribble``, as absolute paths. The list's folder is their root.

    A decathlon file, whose list is under "training", will do.

    Raises:
        ValueError: for a file that is no such list, or names a file that does not exist.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    items = content.get("training") if isinstance(content, dict) else content
    if not isinstance(items, list) or not items:
        raise ValueError(f'{file} must hold a list of cases, each {{"image": ..., "scribble": ...}}')
    cases = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("image", "scribble")):
            raise ValueError(f'{file}: case {number} must name an "image" and a "scribble"')
        case = {key: str((file.parent / item[key]).absolute()) for key in ("image", "scribble")}
        for key, path in case.items():
            if not Path(path).exists():
                raise ValueError(f"{file}: the {key} of case {number} does not exist: {item[key]}")
        cases.append(case)
    return cases


def finetune_bundle(
    root: Path,
    datalist: Path,
    out: Path,
    checkpoint: str = "model.pt",
    scribbles: ScribbleValues = ScribbleValues(),
    settings: FinetuneSettings = FinetuneSettings(),  # noqa: B008
    *,
    check: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Finetuned, list[HeldOut]]:
    """Fine-tune a bundle's network on scribbled cases, and write its weights to a new file.

    Images are prepared by the bundle's own preprocessing. Scribbles are read on the grid that they were painted on; soft labels
    are made there, in mm, and then resampled to the prepared image.

    Args:
        root: the bundle.
        datalist: a JSON file, see `read_scribble_list`.
        out: the new checkpoint, a plain state dict. Its folder is made where it is missing.
        checkpoint: the file in the bundle's ``models`` to begin with; it stays as it is.
        scribbles: how scribbles are to be read.
        settings: what moves, which way and how far.
        check: whether to leave out each case in turn first, which takes as long as fine-tuning once for each.
        device: where the network computes; None for where the bundle puts it.
        progress: called with the number of steps that are done, and of all.

    Returns:
        what was done, and how each case was answered when it was left out (empty without ``check``).

    Raises:
        FileExistsError: when ``out`` exists. No checkpoint is ever replaced.
        BundleError: for a bundle that cannot be read.
        ValueError: for cases that do not fit, see `finetune_on_scribbles`.
    """
    _check_new(out)
    listed = read_scribble_list(datalist)
    bundle = load_bundle(root, checkpoint, device)
    cases, head = _prepared(bundle, listed, scribbles)
    roi_size = getattr(bundle.inferer, "roi_size", -1)
    held_out = []
    if check:
        held_out = list(check_finetuning(bundle.network, cases, head=head, roi_size=roi_size, settings=settings))
    made = finetune_on_scribbles(bundle.network, cases, head=head, roi_size=roi_size, settings=settings, progress=progress)
    _write_new(made.state, out)
    return made, held_out


def _prepared(
    bundle: SourceBundle, listed: Sequence[dict[str, str]], scribbles: ScribbleValues
) -> tuple[list[dict[str, Tensor]], Head]:
    """The cases on the network's grid, and what its logits stand for."""
    with tempfile.TemporaryDirectory() as folder:
        preprocessing, postprocessing = bundle.transforms(Path(folder))
    images = [prepare_image(bundle, preprocessing, Path(case["image"])) for case in listed]
    n_channels = _output_channels(bundle, images[0])
    told = head_of(postprocessing)
    head = head_of_channels(n_channels) if told == "auto" else told
    read = Compose([LoadImaged("scribble"), EnsureChannelFirstd("scribble"), scribbles.transform(n_channels, head)])
    cases = []
    for number, (case, image) in enumerate(zip(listed, images, strict=True)):
        try:
            data = read({"scribble": case["scribble"]})
            cases.append({"image": image, **{key: on_grid_of(image, data[key]) for key in ("soft_label", "weight")}})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"scribble of case {number}: {error.__cause__ or error}") from error
    return cases, head


def on_grid_of(image: Any, part: Any) -> Tensor:
    """A soft label or weight ``(K, *spatial)``, linearly resampled to the grid of an image; 0 outside of its own."""
    same = part.shape[1:] == image.shape[1:]
    if not isinstance(image, MetaTensor) or not isinstance(part, MetaTensor):
        if not same:
            raise ValueError("image and scribble have different sizes, and no meta data say how they lie")
        return torch.as_tensor(part)
    if same and torch.allclose(image.affine, part.affine, atol=1e-3):
        return part.as_tensor()
    resampled: Any = ResampleToMatch(mode="bilinear", padding_mode="zeros")(part, image)
    plain: Tensor = resampled.as_tensor()
    return plain.clamp(0, 1)


@torch.no_grad()
def _output_channels(bundle: SourceBundle, image: Tensor) -> int:
    """How many channels the network answers with."""
    found: list[int] = []

    def answer(windows: Tensor) -> Tensor:
        if not found:
            found.append(main_output(bundle.network(windows)).shape[1])
        return windows[:, :1]

    plain = torch.as_tensor(image.as_tensor() if isinstance(image, MetaTensor) else image)
    bundle.inferer(plain[None].to(bundle.device), answer)
    return found[0]


def _check_new(out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out} exists, and no checkpoint is ever replaced; give another --out")
    if out.parent.exists() and not out.parent.is_dir():
        raise NotADirectoryError(f"{out.parent} is a file; the new checkpoint needs a folder")


def _write_new(state: dict[str, Tensor], out: Path) -> None:
    """Write weights to a temporary file and move it to its place, if that is still free."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        torch.save({name: tensor.cpu() for name, tensor in state.items()}, aside)
        _check_new(out)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
