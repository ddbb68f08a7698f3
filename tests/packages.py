"""Build sdist and wheel, install each (and the tree, editable) without its neighbours' files, and use it.

`python -m tests.packages`: dependencies come from the running environment, the package from what was built. The tests of
the bundles (metadata, run plain and adapted, export) run once more on the bundles inside the installed wheel.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
USE = """
import sys
from pathlib import Path
import monai_tta, monai_tta.bundles, monai_tta.methods, monai_tta.transforms.shift_mri, torch
home = Path(monai_tta.__file__).parent
inside = sys.argv[1] == "editable"
assert inside or "site-packages" in str(home), home
assert (home / "py.typed").is_file() and (home / "reporting" / "tables.html").is_file()
root = Path(next(iter(monai_tta.bundles.__path__))) / "hippocampus_mri"
ours = {"abdomen_ct", "disc_cup_fundus", "headneck_ct", "hippocampus_mri", "vessel_fundus"}
assert {p.parent.name for p in root.parent.glob("*/configs")} == ours
assert {p.parents[1].name for p in root.parent.glob("*/models/model.pt")} == ours - {"disc_cup_fundus", "headneck_ct"}
models = ("model_instance.pt", "gain_predictor.npz", "rehearsal.npz", "learned_optimizer.npz", "fisher.npz")
for part in ("configs/inference.yaml", "configs/metadata.json", "docs/README.md", *(f"models/{name}" for name in models)):
    assert (root / part).is_file(), part
assert (root.parent / "overlays" / "adapt.yaml").is_file()
licensed = {p.parent.name for p in root.parent.glob("*/LICENSE")}
assert licensed == {p.parents[1].name for p in root.parent.glob("*/models/model.pt")}, licensed
if not inside:
    (licences,) = home.parent.glob("monai_tta-*.dist-info/licenses")
    assert (licences / "LICENSE").is_file() and {p.parent.name for p in licences.glob("bundles/*/LICENSE")} == licensed
from monai_tta.pipeline.bundle import load_bundle
source = load_bundle(root)
run = monai_tta.AdaptiveInferer(inferer=source.inferer)
run(torch.randn(1, 1, 40, 40, 40), source.network)
assert run.cases[-1].adapted
from monai_tta.quality.predictor_files import load_predictor
assert load_predictor("universal").margin > 0
print(sys.argv[1], "works:", monai_tta.__version__, "from", "the tree" if inside else "site-packages")
"""


def call(*words: str, folder: str | Path) -> None:
    """Run and stop at the first failure."""
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL if "pip" in words else None)


def use(kind: str, what: str, folder: Path) -> None:
    """Install one form of the package in an environment of its own and use it from an empty folder."""
    home = folder / kind
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    (here := folder / f"empty-{kind}").mkdir()
    site = Path(subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip())
    (site / "neighbours.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    words = ["-e", what] if kind == "editable" else [what]
    call(python, "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", *words, folder=here)
    call(python, "-c", USE, kind, folder=here)
    call(str(home / "bin" / "monai-tta"), "methods", folder=here)
    if kind == "wheel":
        shutil.copytree(ROOT / "tests", here / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        names = ("bundles/test_source_bundle", "bundles/test_ct_bundle", "bundles/test_fundus_bundles", "pipeline/test_bundle")
        files = [f"tests/{name}.py" for name in names]
        call(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, folder=here)


def main() -> None:
    """All three."""
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call(sys.executable, "-m", "build", "-q", "--outdir", str(folder / "dist"), str(ROOT), folder=folder)
        sdist, wheel = (next((folder / "dist").glob(f"*.{end}")) for end in ("tar.gz", "whl"))
        call(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel), folder=folder)
        use("wheel", str(wheel), folder)
        use("sdist", str(sdist), folder)
        use("editable", str(ROOT), folder)


if __name__ == "__main__":
    main()
