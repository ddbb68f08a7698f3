"""What the commands of a page need: files in the working folder, called as the page calls them. Networks and images are small."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.transforms.phantoms import fundus_phantom
from tests.attack.arena import PHOTOGRAPHS, save, small_bundle, volume
from tests.attack.series import CT

SEQUENCES = ("t1", "t1ce", "t2", "flair")
BOX = (34, 36, 35)


def scans(folder="SCANS", names="ab", shape=(12, 11, 10), scale=1):
    """Small volumes, a bright block in noise each."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        save(Path(folder) / f"{name}.nii.gz", scale * volume(np.random.default_rng(number), shape))


def small():
    """A small bundle, and scans for it."""
    small_bundle(Path("BUNDLE"))
    scans()


def shipped():
    """A copy of the bundle that ships with predictors, two boxes of an MRI, and a labelled set of the source."""
    shutil.copytree(BUNDLES / "hippocampus_mri", "BUNDLE")
    scans(shape=BOX)
    labelled()


def demo_scans():
    """What `monai-tta demo` leaves for the next command."""
    scans("demo/scans", ["template_left"], BOX)


def labelled(folder="DATA"):
    """Eight labelled cases of the source in the layout of the hippocampus bundle: blobs in noise."""
    rows = ["id,group,split"]
    for kind in ("images", "labels"):
        (Path(folder) / kind).mkdir(parents=True)
    for number in range(8):
        label = np.zeros(BOX, np.uint8)
        label[10:20, 10:24, 12:22], label[20:28, 10:24, 12:22] = 1, 2
        image = np.random.default_rng(number).normal(0, 0.2, BOX).astype(np.float32) + label
        save(Path(folder) / "images" / f"c{number}.nii.gz", image)
        save(Path(folder) / "labels" / f"c{number}.nii.gz", label)
        rows.append(f"c{number},A,{'source_train' if number < 2 else 'source_val'}")
    (Path(folder) / "split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def with_diary():
    """The same with scans enough for a night, which needs a held-back one."""
    shipped()
    scans(names="abcdef", shape=BOX)


def with_images():
    """The same, with unlabelled images of the source as a folder of their own."""
    shipped()
    shutil.copytree("DATA/images", "IMAGES")


def checked():
    """Five home images, and a scan whose grey is inverted."""
    from tests.pipeline.test_check_input import AFFINE, home_images, scan

    shipped()
    shutil.rmtree("BUNDLE")
    shutil.rmtree("SCANS")
    small_bundle(Path("BUNDLE"))
    home_images(Path("IMAGES"))
    Path("SCANS").mkdir()
    save(Path("SCANS/a.nii.gz"), scan(9).min() + scan(9).max() - scan(9), AFFINE)


def guarded():
    """A small bundle with images of its source."""
    from tests.pipeline.test_check_input import home_images

    small()
    home_images(Path("IMAGES"))


def sequences():
    """A network of four sequences, and its cases as the page lists and groups them."""
    small_bundle(Path("BUNDLE"))
    file = Path("BUNDLE/configs/inference.yaml")
    text = file.read_text(encoding="utf-8")
    assert "in_channels: 1" in text
    file.write_text(text.replace("in_channels: 1", "in_channels: 4"), encoding="utf-8")
    weights = torch.load("BUNDLE/models/model.pt", weights_only=True)
    # the first layer sees four channels where it saw one
    widened = {name: v.repeat(1, 4, 1, 1, 1) if v.ndim == 5 and v.shape[1] == 1 else v for name, v in weights.items()}
    torch.save(widened, "BUNDLE/models/model.pt")
    rows = []
    for case in ("a", "b"):
        scans(f"FOLDER/{case}", [f"{case}_{sequence}" for sequence in SEQUENCES])
        rows.append({"case": case} | {s: f"FOLDER/{case}/{case}_{s}.nii.gz" for s in SEQUENCES})
    listed = [{"case": row["case"], "image": [row[s] for s in SEQUENCES]} for row in rows]
    Path("cases.json").write_text(json.dumps({"testing": listed}), encoding="utf-8")
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    Path("cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def formats():
    """A small CT bundle with the names of its organs, scans, and a series for DICOM SEG."""
    pytest.importorskip("highdicom")
    from tests.pipeline.pydicom_series import write_ct

    small_bundle(Path("BUNDLE"), "abdomen_ct", CT)
    shutil.copy(BUNDLES / "abdomen_ct" / "configs" / "metadata.json", "BUNDLE/configs/metadata.json")
    scans(scale=100)  # as if in Hounsfield units
    write_ct(Path("SERIES"))


def photographs():
    """A small bundle of photographs with two of them, and a box of an MRI for the bundle that is named."""
    small_bundle(Path("BUNDLE"), "vessel_fundus", PHOTOGRAPHS)
    scans(names="a", shape=BOX)
    Path("PHOTOGRAPHS").mkdir()
    pixels = (fundus_phantom((40, 48)).image * 255).byte().permute(2, 1, 0).numpy()
    Image.fromarray(pixels).save("PHOTOGRAPHS/eye.png")
