"""Small bundles built like those of MONAI's model zoo, with random weights and random scans, and a way to run them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 2, "overlap": 0.25}
SOFTMAX = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
SIGMOID = [
    {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
]
ONE_TO_TWO = {"in_channels": 1, "out_channels": 2}
UNET = {"_target_": "UNet", "spatial_dims": 3, **ONE_TO_TWO, "channels": [4, 8], "strides": [2]}
SEGRESNET = {"_target_": "SegResNet", "in_channels": 1, "out_channels": 3, "init_filters": 8}
DYNUNET = {"_target_": "DynUNet", "spatial_dims": 3, **ONE_TO_TWO, "norm_name": "instance", "filters": [4, 8, 8]}
BASIC_UNET = {"_target_": "BasicUNet", "spatial_dims": 3, **ONE_TO_TWO, "features": [4, 4, 8, 8, 8, 4]}
SEARCH_SPACE = {"channel_mul": 0.2, "num_blocks": 3, "num_depths": 3, "use_downsample": True, "spatial_dims": 3}
# An architecture that a DiNTS search could have found: which edges are active, and with which cell.
EDGES = [[1, 0, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 1, 0], [1, 0, 1, 0, 1, 1, 0]]
CELLS = [[3, 4, 0, 4, 0, 4, 1], [2, 0, 3, 0, 0, 4, 0], [2, 0, 0, 1, 1, 1, 1]]
DINTS = {
    "_target_": "DiNTS",
    "dints_space": {
        "_target_": "TopologyInstance",
        **SEARCH_SPACE,
        "arch_code": [f"$numpy.array({EDGES}, dtype=float)", f"$numpy.array({CELLS})"],
    },
    "in_channels": 1,
    "num_classes": 2,
    "use_downsample": True,
    "spatial_dims": 3,
    "node_a": "$torch.ones(4, 3)",
}
OWN_SCRIPTS = Path(__file__).with_name("own_scripts.py").read_text(encoding="utf-8")
VISTA = {
    "_target_": "VISTA3D",
    "image_encoder": {"_target_": "SegResNetDS2", "in_channels": 1, "blocks_down": [1, 1], "norm": "instance"}
    | {"out_channels": 8, "init_filters": 8, "dsdepth": 1},
    "class_head": {"_target_": "monai.networks.nets.vista3d.ClassMappingClassify", "n_classes": 8, "feature_size": 8},
    "point_head": {"_target_": "monai.networks.nets.vista3d.PointMappingSAM", "feature_size": 8, "n_classes": 8}
    | {"last_supported": 4},
}


@dataclass(frozen=True)
class Kind:
    """What a bundle is like, and what its records should say.

    Args:
        network: the config of its network.
        inferer: the config of its inferer.
        post: the configs of its postprocessing transforms.
        head: what the logits stand for.
        selected: the selection that adaptation should find.
        size: of its images: three sides for volumes, two for photographs.
        scans: the names of its images, one letter each.
        scripts: code of its own.
    """

    network: dict[str, Any]
    inferer: dict[str, Any]
    post: list[dict[str, Any]]
    head: str = "softmax"
    selected: str = "NormAffine()"
    size: tuple[int, ...] = (32, 32, 32)
    scans: str = "ab"
    scripts: str = ""

    @property
    def suffix(self) -> str:
        return ".nii.gz" if len(self.size) == 3 else ".png"


KINDS = {
    "unet without affine": Kind(UNET, WINDOW, SOFTMAX, selected="AttachedAffine()"),
    "segresnet, nested regions": Kind({**SEGRESNET, "blocks_down": [1, 1], "blocks_up": [1]}, WINDOW, SIGMOID, "sigmoid"),
    "dynunet": Kind(
        {**DYNUNET, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
        {**WINDOW, "_target_": "SlidingWindowInfererAdapt"},
        SOFTMAX,
        selected="AttachedAffine()",
    ),
    "basicunet by patches": Kind(
        BASIC_UNET,
        {"_target_": "PatchInferer", "splitter": {"_target_": "SlidingWindowSplitter", "patch_size": [32, 32, 16]}},
        SOFTMAX,
    ),
    "swinunetr": Kind(
        {"_target_": "SwinUNETR", **ONE_TO_TWO, "feature_size": 12, "depths": [1, 1, 1, 1]},
        {**WINDOW, "roi_size": [64, 32, 32], "overlap": 0.0},
        SOFTMAX,
    ),
    "dints": Kind(DINTS, {**WINDOW, "roi_size": [32, 32, 32]}, SOFTMAX),
    "slices": Kind(
        {**UNET, "spatial_dims": 2, "norm": "batch"},
        {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2, "sw_batch_size": 4},
        SOFTMAX,
    ),
    "whole volume": Kind(
        {**UNET, "_target_": "AttentionUnet", "out_channels": 1}, {"_target_": "SimpleInferer"}, SIGMOID, "sigmoid"
    ),
    "endoscopy": Kind(
        {"_target_": "FlexibleUNet", "in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b0"},
        {"_target_": "SimpleInferer"},
        SOFTMAX,
        size=(96, 64),
    ),
    "nuclei of several outputs": Kind(
        {"_target_": "HoVerNet", "mode": "fast", "in_channels": 3, "out_classes": 5},
        {
            "_target_": "monai.apps.pathology.inferers.SlidingWindowHoVerNetInferer",
            "roi_size": 256,
            "overlap": 0.36,
            "extra_input_padding": [46] * 4,  # the network segments the middle of its window only
        },
        [
            {"_target_": "FlattenSubKeysd", "keys": "pred"},
            {"_target_": "CopyItemsd", "keys": "nucleus_prediction", "names": "pred"},
            *SOFTMAX,
        ],
        size=(164, 164),
        scans="a",
    ),
    "vista3d": Kind(
        VISTA,
        {"_target_": "scripts.own.ClassInferer", "roi_size": [32, 32, 32], "sw_batch_size": 1},
        SIGMOID,
        "sigmoid",
        scripts=OWN_SCRIPTS,
    ),
    "vista3d, told where windows lie": Kind(
        VISTA,
        {"_target_": "scripts.own.ClassInferer", "roi_size": [32, 32, 32], "sw_batch_size": 1, "with_coord": True},
        SIGMOID,
        "sigmoid",
        scripts=OWN_SCRIPTS,
    ),
    "an inferer and a network of its own": Kind(
        {"_target_": "scripts.own.Promptable"},
        {"_target_": "scripts.own.PromptInferer", "roi_size": 16},
        SIGMOID,
        "sigmoid",
        scripts=OWN_SCRIPTS,
    ),
}


def config(root, kind):
    """The bundle's inference config."""
    is_volume = len(kind.size) == 3
    load = {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader" if is_volume else "PILReader"}
    orient = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
    first = [load, {"_target_": "EnsureChannelFirstd", "keys": "image"}, *([orient] if is_volume else [])]
    invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False}
    save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "separate_folder": False, "print_log": False}
    save |= {"output_ext": kind.suffix} | ({} if is_volume else {"scale": 255, "output_dtype": "$numpy.uint8"})
    return {
        "imports": ["$import glob", "$import torch", "$import numpy"],
        "bundle_root": str(root),
        "dataset_dir": str(root / "scans"),
        "output_dir": str(root / "out"),
        "network_def": kind.network,
        "network": "$@network_def.to('cpu')",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [*first, {"_target_": "NormalizeIntensityd", "keys": "image"}],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": f"$[{{'image': f}} for f in sorted(glob.glob(@dataset_dir + '/*{kind.suffix}'))]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": kind.inferer,
        "postprocessing": {"_target_": "Compose", "transforms": [*([invert] if is_volume else []), *kind.post, save]},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
    }


def make(root, kind):
    """Write a bundle of this kind to a folder, with random weights and scans, and return the folder."""
    root = Path(root)
    for folder in ("configs", "models", "scans", "scripts"):
        (root / folder).mkdir(parents=True)
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "own.py").write_text(kind.scripts, encoding="utf-8")
    made = config(root, kind)
    (root / "configs" / "inference.json").write_text(json.dumps(made), encoding="utf-8")
    parser = ConfigParser({name: made[name] for name in ("imports", "network_def")})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(parser.get_parsed_content("network_def").state_dict(), root / "models" / "model.pt")
    rng = np.random.default_rng(0)
    for name in kind.scans:
        if len(kind.size) == 3:
            image = nib.Nifti1Image(rng.normal(size=kind.size).astype(np.float32), np.diag([-1.0, 1, 1.5, 1]))
            nib.save(image, root / "scans" / f"{name}.nii.gz")
        else:
            Image.fromarray(rng.integers(0, 256, (*kind.size, 3), np.uint8)).save(root / "scans" / f"{name}.png")
    return root


def read(path):
    """A mask's values, their dtype, and its affine."""
    if path.suffix == ".png":
        mask = np.asarray(Image.open(path))
        return mask, mask.dtype, np.eye(4)
    image = nib.load(path)
    return image.get_fdata(), image.get_data_dtype(), image.affine


def run(root, out, *overlays, first=None, changes=None):
    """Run the bundle's evaluator in this process.

    Args:
        root: the bundle's folder.
        out: where masks are written.
        overlays: config files that are read after the bundle's own.
        first: number of the image to start with; None for all.
        changes: values of the config to replace.

    Returns:
        the masks that were written, by file name, and the inferer that was used.
    """
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "inference.json"), *map(str, overlays)])
    parser.update({"output_dir": str(out)} | (changes or {}))
    network = parser.get_parsed_content("network")
    weights = torch.load(root / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights)
    evaluator = parser.get_parsed_content("evaluator")
    if first is not None:
        evaluator.data_loader.dataset.data = evaluator.data_loader.dataset.data[first:]
    evaluator.run()
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    return {p.name: read(p) for p in sorted(Path(out).iterdir())}, evaluator.inferer
