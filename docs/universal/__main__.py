"""Fit the universal gain predictor: train small networks at each centre, run all candidates on distorted images, pool the cases.

    python -m docs.universal OUT [--vessels DIR] [--discs DIR] [--hippocampus DIR] [--size 120] [--no-bundles]

The folders hold images and labels as `bundles/vessel_fundus` (with chase_db1 and hrf inside) and `bundles/hippocampus_mri` read
them; discs are photographs with masks of the optic disc. The shipped bundles of those data take part, too. OUT gets universal.npz
(numbers only). Each network's cases are kept there, so that the same command resumes.
"""

import argparse
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from docs.universal.networks import KINDS, USUAL, Sets, cases_of_bundle, cases_of_small_network, write_cases
from docs.universal.sources import centres
from monai_tta.preparation.calibration_settings import CalibrationSettings
from monai_tta.preparation.fit import fit_universal_predictor

console = Console()


def sources(folders: dict[str, Path | None], size: int, with_bundles: bool) -> dict[str, Callable[[], Sets]]:
    """What takes part, by name: functions that make the cases of one network, first the small networks, then the bundles."""
    small = [(name, kind) for name in centres(**folders) for kind in KINDS[name]]
    found: dict[str, Callable[[], Sets]] = {
        f"{name}-{kind}": partial(cases_of_small_network, name, kind, size, folders) for name, kind in small
    }
    if not with_bundles:
        return found
    if data := folders["hippocampus"]:
        for checkpoint in ("model.pt", "model_instance.pt"):
            found[f"hippocampus_mri-{checkpoint}"] = partial(
                cases_of_bundle, "hippocampus", "hippocampus_mri", data, checkpoint, {"split": "source_val"}, size // 2, 3
            )
    if data := folders["vessels"]:
        found["vessel_fundus-model.pt"] = partial(
            cases_of_bundle, "vessels", "vessel_fundus", data / "chase_db1", "model.pt", {"skip": 20}, size // 2, 2
        )
    return found


def parse_command_line(program: str) -> tuple[argparse.Namespace, dict[str, Path | None]]:
    """The command line's options, and the folders among them."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("out", type=Path)
    names = ("vessels", "discs", "hippocampus")
    for name in names:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--harm", type=float, default=CalibrationSettings().harm)
    parser.add_argument("--no-bundles", action="store_true", help="without the shipped bundles")
    parser.add_argument("--others", action="store_true", help="for pairs: a gain predictor of other tasks, too")
    parser.add_argument(
        "--only", action="append", help="for pairs: a network, e.g. 'hrf instance'; also of those that are not in KINDS"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options, {name: getattr(options, name) for name in names}


def main() -> None:
    """See the top of this file."""
    options, folders = parse_command_line("docs.universal")
    todo = sources(folders, options.size, not options.no_bundles)
    files = [options.out / f"{name}.pickle" for name in todo]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for name in pool.map(write_cases, todo.values(), files):
            console.print(name)
    networks = [pickle.loads(file.read_bytes())[USUAL] for file in files]
    predictor = fit_universal_predictor(networks, options.harm)
    predictor.save(options.out / "universal.npz")
    console.print(json.dumps(predictor.about | {"margin": predictor.margin}, indent=1))


if __name__ == "__main__":
    main()
