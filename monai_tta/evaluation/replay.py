"""A case of a run that was answered anew: whether everything is as its record says, and the mask as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from monai_tta.evaluation.run_differences import MISSING, CaseDifferences, Fact, compare_cases, facts_to_dict, run_facts
from monai_tta.pipeline.find_images import FoundImages
from monai_tta.pipeline.image_names import name_of

# What may differ between two machines, or two copies of one bundle, without anything being wrong.
_CIRCUMSTANCES = ("settings: bundle", "settings: device", "computed_on", "threads")


@dataclass(frozen=True)
class Replay:
    """A replayed case beside the one on record.

    Args:
        case: how the masks and what is on record of the case differ.
        differs: what is not as the record says.
        circumstances: versions, machine and names that are others.
        unchecked: what the record does not say, so that it could not be checked, in words.
    """

    case: CaseDifferences
    differs: tuple[Fact, ...]
    circumstances: tuple[Fact, ...]
    unchecked: tuple[str, ...]

    @classmethod
    def of(
        cls,
        name: str,
        folders: tuple[Path, Path],
        documents: tuple[Mapping[str, Any], Mapping[str, Any]],
        recorded: Mapping[str, Any],
    ) -> Replay:
        """Compare a case with its replay.

        Args:
            name: of the case.
            folders: that of the run and that of the replay.
            documents: what the ``records.json`` of each holds; that of the replay holds the one case.
            recorded: the case in the first.

        Raises:
            ValueError: where anonymous records hide which mask is the case's.
        """
        (anew,) = documents[1]["cases"]
        if "masks" not in recorded:
            recorded = {**recorded, "masks": _masks_of_anonymous(folders[0], anew)}
        case = compare_cases(name, folders, (recorded, anew))
        failed = anew["status"] == "failed"
        facts = [*run_facts(*documents), *([("error", None, anew["error"])] if failed else case.facts())]
        known = [fact for fact in facts if fact[1] != MISSING]
        return cls(
            case,
            tuple(fact for fact in known if not _is_circumstance(fact[0])),
            tuple(fact for fact in known if _is_circumstance(fact[0])),
            tuple(_words_on_missing(what) for what, one, _ in facts if one == MISSING),
        )

    @property
    def same(self) -> bool:
        """Whether the mask is the same, bit for bit, and was made as the record says."""
        return self.case.masks is not None and self.case.same and not self.differs

    @property
    def failed(self) -> bool:
        """Whether there is no mask this time."""
        return any(case is not None and case["status"] == "failed" for case in self.case.cases)

    @property
    def is_changed_on_disk(self) -> bool:
        """Whether the new mask holds as much of each label as the record says, and that on disk is another one."""
        masks, (recorded, anew) = self.case.masks, self.case.cases
        if masks is None or masks.n_different == 0 or recorded is None or anew is None:
            return False
        return bool(recorded["labels"]) and _counts(recorded["labels"]) == _counts(anew["labels"])

    @property
    def files(self) -> str:
        """The names of the masks."""
        return ", ".join((self.case.cases[0] or {}).get("masks", ()))

    @property
    def largest_change(self) -> str:
        """The largest difference of a volume, in words; empty where no volume differs."""
        labels = () if self.case.masks is None else self.case.masks.labels
        most = max(labels, key=lambda label: abs(label.amounts[0] - label.amounts[1]), default=None)
        if most is None or most.amounts[0] == most.amounts[1]:
            return ""
        return f"; the largest difference is {abs(most.amounts[0] - most.amounts[1]):.6g} {most.unit} ({most.name})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "same": self.same,
            "case": self.case.to_dict(),
            "differs": facts_to_dict(self.differs),
            "circumstances": facts_to_dict(self.circumstances),
            "unchecked": list(self.unchecked),
            "changed_on_disk": self.is_changed_on_disk,
        }


def chosen_image(found: FoundImages, recorded: Mapping[str, Any]) -> tuple[Path, str]:
    """The image of a case, and what it is called: the only one that was found, else that of the case's name or number.

    Args:
        found: the images, with their names.
        recorded: what the records say of the case.

    Raises:
        ValueError: where it is not among them.
    """
    name = recorded.get("name")
    if len(found.images) == 1:
        (image,) = found.images
        return image, name or found.names[0]
    number = recorded["number"] if name is None else found.names.index(name) if name in found.names else -1
    if not 0 <= number < len(found.images):
        what = f"called {name}" if name is not None else f"number {number}"
        raise ValueError(
            f"of the {len(found.images)} images none is {what}: give them as they were given to `monai-tta run`, or the case's "
            f"own image alone, such as {name_of(found.images[0])}"
        )
    return found.images[number], found.names[number]


def use_threads(recorded: Mapping[str, Any]) -> None:
    """Let torch use as many threads as it did for a case: sums over other shares of the numbers have other last bits.

    Args:
        recorded: what the records say of the case.
    """
    if recorded.get("threads"):
        torch.set_num_threads(recorded["threads"])


def _masks_of_anonymous(out: Path, anew: Mapping[str, Any]) -> list[str]:
    """The masks that an anonymous run must have written, which are called like those of the replay."""
    if missing := [mask for mask in anew.get("masks", ()) if not (out / mask).is_file()]:
        raise ValueError(
            f"anonymous records name no masks, and {out} has no {missing[0]}: give the images as they were given to "
            "`monai-tta run`, so that this one gets the name that it had"
        )
    return list(anew.get("masks", ()))


def _counts(labels: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """How much of each label there is; anonymous records do not say in which file."""
    return [(label.get("value"), label.get("channel"), label.get("voxels", label.get("pixels"))) for label in labels]


def _is_circumstance(what: str) -> bool:
    return what in _CIRCUMSTANCES or what.startswith("versions: ")


def _words_on_missing(what: str) -> str:
    if what == "image_hash":
        return "not checked: the records hold no hash of the image, so it may be another one"
    return f"not checked: the records do not say {what}"
