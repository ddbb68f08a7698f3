"""Train small networks at each centre, hear all candidates on distorted images, and pool what was learnt into one judge.

    python -m docs.universal OUT [--vessels DIR] [--discs DIR] [--hippocampus DIR] [--size 120]

DIRs hold images and labels as `bundles/vessel_fundus` (chase_db1 and hrf inside), and `bundles/hippocampus_mri` read them; discs
are photographs with masks of the optic disc. The shipped bundles of those data take part, too. OUT gets universal.npz
(numbers only); what was heard is kept there, so that a run can go on where it was cut off.
"""

import argparse
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from docs.universal.networks import KINDS, work
from docs.universal.sources import centres
from monai_tta.preparation.calibrate import CalibrationSettings
from monai_tta.preparation.fit import fit_universal_predictor

console = Console()


def jobs(places: dict[str, Path | None], size: int) -> list[tuple[str, Any]]:
    """All networks: small ones, then the shipped bundles."""
    todo: list[tuple[str, Any]] = [(name, (kind, size)) for name in centres(**places) for kind in KINDS[name]]
    if data := places["hippocampus"]:
        for checkpoint in ("model.pt", "model_instance.pt"):
            todo.append(
                ("hippocampus 3D", ("hippocampus", "hippocampus_mri", data, checkpoint, {"split": "source_val"}, size // 2))
            )
    if data := places["vessels"]:
        todo.append(("vessels large", ("vessels", "vessel_fundus", data / "chase_db1", "model.pt", {"skip": 20}, size // 2)))
    return todo


def options(program: str) -> tuple[argparse.Namespace, dict[str, Path | None]]:
    """The command line: what was said, and the folders among it."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("out", type=Path)
    for place in ("vessels", "discs", "hippocampus"):
        parser.add_argument(f"--{place}", type=Path)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--harm", type=float, default=CalibrationSettings().harm)
    parser.add_argument("--only", action="append", help="for pairs: a network, e.g. 'chase_db1 batch'")
    said = parser.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    return said, {place: getattr(said, place) for place in ("vessels", "discs", "hippocampus")}


def main() -> None:
    """See the top of this file."""
    said, places = options("docs.universal")
    todo = jobs(places, said.size)
    files = [said.out / f"{k:02d}.pickle" for k in range(len(todo))]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for name in pool.map(work, todo, files, [places] * len(todo)):
            console.print(name)
    predictor = fit_universal_predictor([pickle.loads(file.read_bytes()) for file in files], said.harm)
    predictor.save(said.out / "universal.npz")
    console.print(json.dumps(predictor.about | {"margin": predictor.margin}, indent=1))


if __name__ == "__main__":
    main()
