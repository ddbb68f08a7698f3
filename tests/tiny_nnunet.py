"""Model folders of nnU-Net v2 as training leaves them, small, with seeded random weights."""

import json

import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

LABELS = {"background": 0, "front": 1, "back": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
_RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}


def architecture(dims):
    """A U-Net of two stages with InstanceNorm."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * 2,
            "strides": [[1] * dims, [2] * dims],
            "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dims, channels):
    """One configuration of plans.json."""
    return {
        "data_identifier": "tiny",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [12] * dims,
        "median_image_size_in_voxels": [16] * dims,
        "spacing": [1.0] * dims,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "architecture": architecture(dims),
        "batch_dice": False,
        **_RESAMPLING,
    }


def write_descriptions(folder, labels=LABELS, channels=("T1",), ending=".nii.gz", axes=(1, 0, 2), reader="SimpleITKIO"):
    """plans.json and dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = {"channel_names": {str(k): name for k, name in enumerate(channels)}, "labels": labels, "file_ending": ending}
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = [1, 2]
    three = configuration(3, len(channels))
    plans = {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(axes),
        "transpose_backward": [int(k) for k in np.argsort(axes)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(k): {} for k in range(len(channels))},
        "configurations": {
            "2d": configuration(2, len(channels)),
            "3d_fullres": three,
            "3d_lowres": {**three, "spacing": [1.5, 1.5, 1.5], "next_stage": "3d_cascade_fullres"},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
    (folder / "dataset.json").write_text(json.dumps(dataset), "utf-8")
    (folder / "plans.json").write_text(json.dumps(plans), "utf-8")


def checkpoint(weights, name="3d_fullres", mirrors=(0, 1, 2), **others):
    """What nnU-Net's trainer writes, with its numpy scalars."""
    return {
        "network_weights": weights,
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5)], "lrs": [0.01], "dice_per_class_or_region": [[np.float64(0.4)]]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": name, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirrors,
        **others,
    }


def model_folder(folder, name="3d_fullres", folds=(0,), labels=LABELS, channels=("T1",), mirrors=(0, 1, 2), **how):
    """A model folder whose networks nnunetv2 built."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    write_descriptions(folder, labels, channels, **how)
    dims = 2 if name == "2d" else 3
    plan = architecture(dims)
    shape = (plan["network_class_name"], plan["arch_kwargs"], plan["_kw_requires_import"], len(channels))
    outputs = 2 if "whole" in labels else 3
    for fold in folds:
        with torch.random.fork_rng():
            torch.manual_seed(len(str(fold)) + (fold if isinstance(fold, int) else 0))
            network = get_network_from_plans(*shape, outputs, allow_init=True, deep_supervision=False)
            for parameter in network.parameters():  # what InstanceNorm scales by, too, must differ between folds
                parameter.data += 0.3 * torch.randn_like(parameter)
            weight, bias = list(network.parameters())[-2:]  # of the last layer: made so that every class appears
            weight.data -= weight.data.mean(1, keepdim=True)
            bias.data.zero_()
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint(network.state_dict(), name, mirrors), folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def write_turned(file, voxels, spacing):
    """A volume with turned axes, off the origin."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(file), True)
    return file


def write_case(folder, name, channels=1, seed=0, ending=".nii.gz"):
    """An image per channel, oblique, off the origin, with other spacing than the plans', and blank at its rim."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    files = []
    for channel in range(channels):
        voxels = np.zeros((15, 17, 19), np.float32)
        voxels[1:-1, 2:-1, 1:] = rng.normal(100, 20, (13, 14, 18))
        files.append(write_turned(folder / f"{name}_{channel:04d}{ending}", voxels, (0.9, 1.1, 1.3)))
    return files


def write_picture(folder, name, seed=0):
    """A photograph in colours, by nnU-Net's name for it."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (15, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}_0000.png")
    return [folder / f"{name}_0000.png"]


def predicted_by_nnunet(folder, files, out, folds):
    """The bytes of the mask that nnU-Net itself writes for a case."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    predictor.predict_from_files_sequential([[str(file) for file in files]], [str(out)])
    (mask,) = out.parent.glob(f"{out.name}.*")
    return mask.read_bytes()


def answer_brightness(folder):
    """Let all folds of a model folder answer what is bright, front, and what is brighter yet, back; regions likewise.

    The first channel alone counts. One window holds the whole image, and InstanceNorm keeps a window without anything dark.
    """
    plans = json.loads((folder / "plans.json").read_text("utf-8"))
    for one in plans["configurations"].values():
        if "patch_size" in one:
            one["patch_size"] = [32] * len(one["patch_size"])
            one["architecture"]["arch_kwargs"]["norm_op_kwargs"]["eps"] = 1.0
    (folder / "plans.json").write_text(json.dumps(plans), "utf-8")
    for number, file in enumerate(sorted(folder.glob("fold_*/checkpoint_final.pth"))):
        content = torch.load(file, weights_only=False)
        weights = content["network_weights"]
        for name, tensor in weights.items():
            tensor.fill_(1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0)
            dims = tensor.ndim - 2
            if dims > 0 and tensor.shape[-1] == 3:  # 0 is the image's first channel, and 4 what skips the lower stage
                source = 4 if name.startswith("decoder.stages") else 0
                tensor[(0, source, *[1] * dims)] = 1.0
            elif name.startswith("decoder.seg_layers") and name.endswith("weight"):
                tensor[-2:, 0] = torch.tensor([10.0, 20.0 if len(tensor) == 3 else 10.0]).view(2, *[1] * dims)
            elif name.startswith("decoder.seg_layers"):
                front, back = 12.0 + number, 35.0
                tensor[-2:] = -torch.tensor([front, front + back if len(tensor) == 3 else back])
        torch.save(content, file)
    return folder


def write_anatomy(folder, name, channels=1, ending=".nii.gz"):
    """Images of a bright block with a brighter core, towards one side of each axis, in turned voxels of three sizes.

    A photograph is as wide as the block is far from its middle in another direction.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    voxels = 100 + rng.normal(0, 1, (19, 21, 23))
    voxels[3:9, 12:18, 5:13] = 200
    voxels[5:8, 13:16, 6:9] = 300
    if ending == ".png":
        pixels = np.clip(voxels[6] * 0.8, 0, 255).astype(np.uint8)
        Image.fromarray(np.stack([pixels, pixels // 2, 255 - pixels], -1)).save(folder / f"{name}_0000.png")
        return [folder / f"{name}_0000.png"]
    files = []
    for channel in range(channels):
        turned = (voxels if channel == 0 else voxels[::-1]).astype(np.float32)
        files.append(write_turned(folder / f"{name}_{channel:04d}{ending}", turned, (0.9, 1.1, 2.6)))
    return files
