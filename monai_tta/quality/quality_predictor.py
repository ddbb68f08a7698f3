"""The quality predictor: from what an answer shows of each structure to the quality it is expected to have, with intervals.

It predicts two figures of each structure, each by a model of its own of one kind (`monai_tta.quality.figure_model`): Dice, and
normalised surface Dice (NSD) at a tolerance of `SURFACE_TOLERANCE` voxel, the share of the surface that is right.

A model starts from the one signal that says most by itself, such as the Dice between answers in views, through a
curve that only rises or only falls. A forest adds what the other figures know, as far as that held on images that were held out.
The interval is conformal: on distorted source images that were held out, it held the true figure in the stated share of cases.
`monai-tta calibrate` fits it. Its file holds numbers only, and no pickle.

Where a structure is not in the label, both figures are 1 for an empty mask and 0 for any other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from monai_tta.compute.number_files import load_numbers, save_numbers
from monai_tta.core.network_copy import network_digest
from monai_tta.core.record import StructureQuality
from monai_tta.core.views import Views
from monai_tta.quality.figure_model import FigureModel
from monai_tta.quality.gain_predictor import Floats, PredictorError
from monai_tta.quality.structure_features import STRUCTURE_FEATURES, found_nothing

FORMAT = 2
FIGURES = ("dice", "nsd")  # that are predicted, as `StructureModel` calls them
_BETWEEN_VIEWS = ("pairwise Dice of views", "least pairwise Dice of views")
RATE = 0.9  # of the cases, the share whose true figure lies in the interval


@dataclass(frozen=True, eq=False)
class StructureModel:
    """What predicts the quality of one structure's mask.

    Args:
        dice: its Dice.
        nsd: its normalised surface Dice at `SURFACE_TOLERANCE` voxel.
    """

    dice: FigureModel
    nsd: FigureModel


@dataclass(frozen=True, eq=False)
class QualityPredictor:
    """Predicts the Dice and NSD of an answer's structures, on its adaptation windows.

    Args:
        structures: the models of each structure.
        network: the digest of the network that it was fitted to; of several that answer together, theirs with spaces between.
        views: in which answers are compared.
        budget: how many windows of an image are looked at.
        rate: the share of cases whose true figure lies in the interval.
        temperature: by which logits are divided to make honest probabilities.
        features: their names.
        about: how the predictor was made, in words and figures, with what held on held-out distortions.
        adapted: whether it was fitted to adapted answers, too; else nothing is said of these.
    """

    structures: tuple[StructureModel, ...]
    network: str
    views: Views = Views()
    budget: int = 4
    rate: float = RATE
    temperature: float = 1.0
    features: tuple[str, ...] = STRUCTURE_FEATURES
    about: dict[str, Any] = field(default_factory=dict)
    adapted: bool = True

    def fits(self, network: nn.Module) -> bool:
        """Whether it was fitted to this network, with these weights.

        Args:
            network: in eval mode.
        """
        return network_digest(network) in self.network.split()

    def predict(self, table: Floats, adapted: bool) -> tuple[StructureQuality, ...]:
        """The expected quality of each structure.

        Args:
            table: ``(structures, features)``.
            adapted: whether the answer is anything else than the source's own.

        Raises:
            PredictorError: for another number of structures; for an adapted answer where it was fitted to none.
        """
        if adapted and not self.adapted:
            raise PredictorError("the quality predictor was fitted to unadapted answers alone")
        if len(table) != len(self.structures):
            raise PredictorError(
                f"the quality predictor was fitted to {len(self.structures)} structures, and the network answers {len(table)}"
            )
        found = []
        for number, (model, row) in enumerate(zip(self.structures, table, strict=True)):
            dice, low, high, spread = (float(value[0]) for value in model.dice.interval(row[None], adapted))
            nsd, nsd_low, nsd_high, _ = (float(value[0]) for value in model.nsd.interval(row[None], adapted))
            of_dice = {"dice": dice, "low": low, "high": high, "spread": spread}
            of_surface = {"nsd": nsd, "nsd_low": nsd_low, "nsd_high": nsd_high}
            ranking = dice if self.views.is_plain else rank_score(dice, row)  # a view alone agrees with itself
            found.append(StructureQuality(structure=number + 1, **of_dice, **of_surface, ranking=ranking))
        return tuple(found)

    def chance_below(self, quality: StructureQuality, adapted: bool, dice: float) -> float:
        """How likely the true Dice of a structure is below some other, from 0 to 1, in steps of a hundredth.

        Args:
            quality: what was predicted.
            adapted: whether of an answer that is not the source's own.
            dice: the other Dice.
        """
        scores = self.structures[quality.structure - 1].dice.scores[int(adapted)]
        return float(np.mean(np.clip(quality.dice + scores * quality.spread, 0, 1) < dice))

    def save(self, path: Path) -> None:
        """Write the predictor as arrays and JSON (.npz), to a temporary name first and then in one move.

        Args:
            path: the file; one that is there is replaced.
        """
        description = {
            "format": FORMAT,
            "features": self.features,
            "structures": len(self.structures),
            "network": self.network,
            "views": asdict(self.views),
            "budget": self.budget,
            "rate": self.rate,
            "temperature": self.temperature,
            "about": self.about,
            "adapted": self.adapted,
        }
        arrays = {
            f"{k}_{figure}_{name}": array
            for k, models in enumerate(self.structures)
            for figure, model in vars(models).items()
            for name, array in model.to_arrays().items()
        }
        save_numbers(path, description, arrays)

    @classmethod
    def load(cls, path: Path) -> QualityPredictor:
        """Read `save` back.

        Args:
            path: the file.

        Raises:
            PredictorError: for a file that is not there, cannot be read, or was written for other features.
        """
        if not path.is_file():
            raise PredictorError(f"{path} does not exist: `monai-tta calibrate BUNDLE` makes a quality predictor")
        try:
            said, arrays = load_numbers(path, FORMAT)
            structures = tuple(_models(arrays, k, len(said["features"])) for k in range(said["structures"]))
            views = Views.from_dict(said["views"])
            rate, temperature = (float(said[name]) for name in ("rate", "temperature"))
            features = tuple(said["features"])
            how = (views, int(said["budget"]), rate, temperature, features, said["about"], bool(said.get("adapted", True)))
            found = cls(structures, said["network"], *how)
        except Exception as error:  # numpy, zip and JSON raise many kinds; all of them mean: not a predictor's file
            raise PredictorError(
                f"{path} cannot be read as a quality predictor: {type(error).__name__}: {error}; calibrate again"
            ) from error
        if found.features != STRUCTURE_FEATURES:
            raise PredictorError(f"{path} was fitted to other features than this version computes; calibrate again")
        return found


def rank_score(dice: float, row: Floats) -> float:
    """By what masks are sorted: the mean of the expected Dice, and of the mean and the least Dice between answers in views.

    The expected Dice tells bad domains from good ones, and the views tell good masks of one domain from bad ones
    (docs/quality.md). Nothing in it was fitted or chosen by figures but which three numbers are averaged.

    Args:
        dice: the expected Dice.
        row: the structure's `STRUCTURE_FEATURES`.

    Returns:
        from 0 to 1, the better the higher; the expected Dice itself for an empty mask, on which views agree without a reason.
    """
    if found_nothing(row):
        return dice
    return float(np.mean([dice, *(row[STRUCTURE_FEATURES.index(name)] for name in _BETWEEN_VIEWS)]))


def _models(arrays: dict[str, Any], k: int, n_features: int) -> StructureModel:
    """The models of one structure in a file."""
    found = {}
    for figure in FIGURES:
        prefix = f"{k}_{figure}_"
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        found[figure] = FigureModel.from_arrays(own, n_features)
    return StructureModel(**found)
