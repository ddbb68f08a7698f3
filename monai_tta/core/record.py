"""What was done for one image: frozen records that go to JSON and back. They hold no tensors, names, paths or pixels."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


SURFACE_TOLERANCE = 1  # in voxels of the network's grid: a surface is right up to this distance
NOTHING_ADAPTS = "nothing adapts"  # how the reason ends on the record of a method that changes nothing, such as Source


def peak_memory() -> float | None:
    """The process's largest resident size so far, in MiB; None on Windows."""
    if resource is None:
        return None
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB, macOS in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 2**20


@contextmanager
def reasons_on_record_alone() -> Iterator[None]:
    """A ``with`` block in which the inferer does not warn of what is on each case's record, because the caller reports that."""
    with warnings.catch_warnings():
        for what in ("answered without adaptation", "the stream restarted", "what the answer is worth", "there is no map"):
            warnings.filterwarnings("ignore", what)
        yield


def repr_for_records(value: Any) -> str:
    """The repr of a dataclass, in which each part, and each member of a tuple, that has a ``record_name`` goes by that."""
    text = repr(value)
    for part in vars(value).values():
        for member in part if isinstance(part, tuple) else (part,):
            text = text.replace(repr(member), getattr(member, "record_name", repr(member)))
    return text


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a method: an optimiser step, or the choice that `Careful` makes.

    Args:
        losses: the value of each loss, by name, where its gradient was taken. In nats for entropies and cross-entropies, in
            squared units of the image for reconstructions.
        cosine: of the angle between the method's two gradients, in [-1, 1]; None for a method that compares none.
        lr: the learning rate of this step, 0 or more; 0 where there was no optimiser.
        notes: other numbers that the method wants on record, by name.
    """

    losses: dict[str, float] = field(default_factory=dict)
    cosine: float | None = None
    lr: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StructureQuality:
    """What the mask of one structure is expected to be worth.

    Args:
        structure: its number among the network's structures, from 1.
        dice: the expected Dice, in [0, 1].
        low: the lower end of the interval that holds the true Dice at the predictor's rate, in [0, 1].
        high: its upper end.
        spread: how far the prediction is expected to be off, in Dice, above 0.
        nsd: the expected normalised surface Dice, in [0, 1]: the share of both surfaces, the mask's and the true one, that lies
            within `SURFACE_TOLERANCE` voxel of the other.
        nsd_low: the lower end of the interval that holds the true one at the predictor's rate, in [0, 1].
        nsd_high: its upper end.
        ranking: by what masks are sorted, in [0, 1], the better the higher: the mean of the expected Dice, and of the mean and
            the least Dice between answers in views.
    """

    structure: int
    dice: float
    low: float
    high: float
    spread: float
    nsd: float
    nsd_low: float
    nsd_high: float
    ranking: float


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """What the map of a case's uncertainty is like.

    Args:
        largest: the largest value that it can have, in nats, see `monai_tta.core.uncertainty.largest_information`.
        n_answers: how many single answers of each window were compared, 2 or more; each is a forward pass.
    """

    largest: float
    n_answers: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image, what was done for it, and whether the answer is the adapted one.

    Args:
        number: place of the image among those that the inferer was given, from 0.
        network: the network's class.
        method: the method with all its settings, as `AdaptationMethod.record_name` writes it.
        head: "softmax" or "sigmoid": what the logits stand for. "auto" where no answer showed which.
        learn: "volume" or "window", as `AdaptiveInferer` was told.
        reset: "volume", "window" or "never", as `AdaptiveInferer` was told.
        seed: of all random draws for this image.
        shape: of the image, ``(1, C, *spatial)``.
        precision: "exact" or "fast": the arithmetic that was used.
        budget: how many windows to adapt on at most, at least 1; None for all usable ones.
        n_windows: how many windows the method learnt from or pooled statistics over, 0 or more.
        n_moving: how many numbers of the network were free to move, 0 or more; 0 where no adapted network is left.
        selected: the selection that found these; None where nothing is selected.
        steps: the optimiser steps, in order.
        weight_distance: Euclidean distance of the moving numbers from the source's after this image, 0 or more.
        changed_fraction: share of the voxels whose label differs from the unadapted answer's, in [0, 1]. None where the image was
            not adapted, and where no unadapted answer was computed because no guard asked for one.
        seconds: wall time for the whole image, in seconds.
        seconds_unadapted: the part of it that the unadapted answer took, in seconds; None where none was computed.
        peak_memory: the process's largest resident size so far, in MiB; None on Windows.
        answers: what the network's main output holds, "logits" or "probabilities"; None where no answer showed it.
        n_kept_source: how many normalisation layers kept the source's statistics, because they see one voxel per channel.
        reason: why the answer is the unadapted one; None where it is the adapted one.
        restarted: why a continual stream restarted with this image; None where it did not.
        input_check: what a check of the input found, and whether it was corrected; None where nothing is unusual or checked.
        input_checked: whether the input was compared with the source's.
        quality: what the answer is expected to be worth, for each structure; None where no quality predictor said so.
        quality_unadapted: the same of the unadapted answer where the answer is an adapted one; else None.
        quality_note: why a quality predictor could say nothing; None where it could, or there is none.
        uncertainty: what the map of the answer's uncertainty is like; None where there is no map.
        uncertainty_note: why there is no map although one was asked for; else None.
        computed_on: the processor and the version of torch, as `monai_tta.compute.machine.computed_on` writes them.
        threads: how many threads torch used on the CPU, at least 1.
        image_hash: of what the image's files hold, without their names; None where the image was in no file.
    """

    number: int
    network: str
    method: str
    head: str
    learn: str
    reset: str
    seed: int
    shape: tuple[int, ...]
    precision: str = "exact"
    budget: int | None = None
    n_windows: int = 0
    n_moving: int = 0
    selected: str | None = None
    steps: tuple[Step, ...] = ()
    weight_distance: float = 0.0
    changed_fraction: float | None = None
    seconds: float = 0.0
    seconds_unadapted: float | None = None
    peak_memory: float | None = None
    answers: str | None = None
    n_kept_source: int = 0
    reason: str | None = None
    restarted: str | None = None
    input_check: str | None = None
    input_checked: bool = False
    quality: tuple[StructureQuality, ...] | None = None
    quality_unadapted: tuple[StructureQuality, ...] | None = None
    quality_note: str | None = None
    uncertainty: Uncertainty | None = None
    uncertainty_note: str | None = None
    computed_on: str | None = None
    threads: int | None = None
    image_hash: str | None = None

    @property
    def adapted(self) -> bool:
        """Whether the answer is the adapted one."""
        return self.reason is None

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read what `to_json` wrote. The record is equal to the one that was written.

        Args:
            text: a JSON object.

        Raises:
            ValueError: when the text is not the record of a case.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["shape"] = tuple(raw["shape"])
            raw["steps"] = tuple(Step(**step) for step in raw["steps"])
            for name in ("quality", "quality_unadapted"):
                if raw.get(name) is not None:
                    raw[name] = tuple(StructureQuality(**one) for one in raw[name])
            if raw.get("uncertainty") is not None:
                raw["uncertainty"] = Uncertainty(**raw["uncertainty"])
            return cls(**raw)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the record of a case: {error}") from error
