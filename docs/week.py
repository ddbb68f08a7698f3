"""Simulate a week of days and nights and write the table of docs/day-and-night.md: `python -m docs.week DATA`.

DATA holds the folders chase_db1 and hrf. The network was trained on photographs of CHASE_DB1, and the week's patients are HRF's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from monai_tta import VPTTA, AdaptiveInferer, DyNA, Night, Source, Statistics
from monai_tta.core.diary import Diary
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import reasons_on_record_alone
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.protocol import Domain, Protocol, protocol_of
from monai_tta.evaluation.scoring import scores_of
from monai_tta.pipeline.bundle import SourceBundle, load_bundle
from monai_tta.pipeline.night import consolidate_network, head_of_bundle
from monai_tta.pipeline.shipped_bundles import BUNDLES

ROOT = BUNDLES / "vessel_fundus"
DAYS = 5


class Clinic:
    """The labelled photographs of one place, in the order in which they come."""

    def __init__(self, dataset_dir: Path, domain: Domain, protocol: Protocol, numbers: range) -> None:
        self.labelled = LabelledDomain(ROOT, dataset_dir, domain, protocol)
        self.postprocessing = self.labelled.postprocessing()
        self.cases = [self.labelled.case(number) for number in numbers]

    def dice(self, bundle: SourceBundle, network: nn.Module, inferer: AdaptiveInferer, cases: slice) -> list[float]:
        """Dice of the answers to some of the photographs, in [0, 1]."""
        found = []
        for data in self.cases[cases]:
            with torch.no_grad(), reasons_on_record_alone():
                logits = inferer(data["image"][None].as_tensor(), network)
            (score,) = scores_of(self.postprocessing(dict(data) | {"pred": logits[0]}), ("dice",))
            found.append(score.dice)
        return found


def week(bundle: SourceBundle, method: AdaptationMethod, target: Clinic, home: Clinic, per_day: int, nights: bool) -> list[str]:
    """One contender's week: a cell per day, and what the source's own patients get at its end."""
    head = head_of_bundle(bundle)
    network = bundle.network
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        diary = Diary(Path(folder) / "diary")
        if nights:
            method = DyNA(inner=method, diary=str(diary.folder), night=Night(epochs=1))
        inferer = AdaptiveInferer(method=method, inferer=bundle.inferer, head=head, reset="never")
        for day in range(DAYS):
            scores = target.dice(bundle, network, inferer, slice(day * per_day, (day + 1) * per_day))
            cells.append(f"{100 * np.mean(scores):.1f}")
            sys.stderr.write(f"{'with' if nights else 'without'} nights, day {day + 1}: {cells[-1]}\n")
            if nights:
                new = Path(folder) / f"night{day}.pt"
                held_back = [diary.read(file) for file in diary.held_back()]
                report = consolidate_network(network, method, head, held_back, new)
                diary.burn()
                cells[-1] += " (refused)" if report.reason else ""
                if new.is_file():
                    network = load_bundle(ROOT).network
                    network.load_state_dict(torch.load(new, weights_only=True))
                    shutil.rmtree(diary.folder, ignore_errors=True)
    unadapted = AdaptiveInferer(method=Source(), inferer=bundle.inferer, head=head)
    at_home = home.dice(bundle, network, unadapted, slice(None))
    return [*cells, f"{100 * np.mean(at_home):.1f} ± {100 * np.std(at_home, ddof=1):.1f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-day", type=int, default=5, help="photographs a day, 5 or more: a night needs five")
    given = parser.parse_args()
    protocol = protocol_of(ROOT)
    home_domain, target_domain = protocol.domains[:2]
    bundle = load_bundle(ROOT)
    target = Clinic(given.data, target_domain, protocol, range(DAYS * given.per_day))
    home = Clinic(given.data, home_domain, protocol, range(8))
    contenders = {
        "Source": (Source(), False),
        "Statistics, window, blend 0.3": (Statistics(blend=0.3), False),
        "VPTTA by day, no nights": (VPTTA(), False),
        "DyNA: VPTTA by day, nights": (VPTTA(), True),
        "No adaptation by day, nights": (Statistics(blend=0.0, statistics="source"), True),
    }
    lines = ["| method | " + " | ".join(f"day {k + 1}" for k in range(DAYS)) + " | source's own afterwards |"]
    lines.append("|---|" + "---|" * (DAYS + 1))
    for label, (method, nights) in contenders.items():
        lines.append(f"| {label} | " + " | ".join(week(bundle, method, target, home, given.per_day, nights)) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
