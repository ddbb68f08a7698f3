"""Make the pictures of the gallery page: `python -m docs.gallery_pictures`, which `make docs` runs before Sphinx."""

import sys
import tempfile
from pathlib import Path
from subprocess import run

import nibabel as nib
import numpy as np
from PIL import Image

from docs.gallery.shifts import main as draw_shifts
from monai_tta.cli.demo import poor_scanner, write_boxes
from monai_tta.transforms.phantoms import ct_phantom, fundus_phantom

PICTURES = Path(__file__).parent / "_pictures"


def images(folder: Path) -> dict[str, Path]:
    """The image of each script, by the script's name: the demo's template through its poor scanner, and two phantoms."""
    found = {"mri": write_boxes(folder, "poor scanner", poor_scanner())["poor scanner", "right"]}
    found["ct"] = folder / "phantom.nii.gz"
    nib.save(nib.Nifti1Image(ct_phantom((96, 96, 40)).image[0].numpy(), np.diag([3.0, 3, 3, 1])), found["ct"])
    found["fundus"] = folder / "phantom.png"
    eye = (fundus_phantom((256, 256)).image * 255).byte().permute(2, 1, 0).numpy()
    Image.fromarray(eye).save(found["fundus"])
    return found


def main() -> None:
    """Run each script as a user would, then draw the simulated scanners."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for script, image in images(Path(name)).items():
            run([sys.executable, "-m", f"docs.gallery.{script}", image, PICTURES / f"{script}.png"], check=True)
    draw_shifts(PICTURES / "shifts")


if __name__ == "__main__":
    main()
