"""A domain's labelled cases, as the bundle's evaluate config lists and prepares them, maybe through a simulated scanner."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose

from monai_tta.evaluation.protocol import Domain, Protocol, protocol_of
from monai_tta.pipeline.bundle import BundleError
from monai_tta.transforms.shift_mri import ScannerShiftd

SEEDS_PER_RUN = 100_000  # between the simulated scanners' seeds of one run and of the next


class LabelledDomain:
    """The labelled cases of one domain, by number.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: the labelled data; DATA in the domain's keys stands for it.
        domain: which cases.
        protocol: in place of the one in ``configs/compare.yaml``, which then need not exist.

    Attributes:
        groups: each case's group (a scanner, a site), or None.
        digest: a hash of the list of cases. It tells lists apart and holds no name.

    Raises:
        BundleError: for a missing evaluate config, an empty list of cases, or a group whose name is not a short word.
    """

    def __init__(self, root: Path, dataset_dir: Path, domain: Domain, protocol: Protocol | None = None) -> None:
        self.domain = domain
        self.protocol = protocol or protocol_of(root)
        files = [root / "configs" / f"{name}.yaml" for name in ("inference", "evaluate")]
        for file in files:
            if not file.is_file():
                raise BundleError(f"{file} does not exist; it lists the labelled cases")
        self.parser = ConfigParser()
        self.parser.read_config([str(file) for file in files])
        self.parser.update({"bundle_root": str(root), "dataset_dir": str(dataset_dir)})
        self.parser.update({key: _with_folder(value, dataset_dir) for key, value in domain.keys.items()})
        self.items: list[dict[str, Any]] = list(self.parser.get_parsed_content("datalist"))
        if not self.items:
            raise BundleError(f"{dataset_dir} has no case for {domain.label!r} ({domain.keys})")
        self.groups = [_group(item.get("group"), domain) for item in self.items]
        listed = json.dumps([self.items, domain.keys, domain.shift], default=str).replace(str(dataset_dir), "DATA")
        self.digest = sha256(listed.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.items)

    def case(self, number: int, seed: int = 0) -> dict[str, Any]:
        """Load and prepare one case; the simulated scanner stands before the bundle's normalisation.

        Args:
            number: from 0.
            seed: of the run. Number and seed together are the simulated scanner's seed.

        Raises:
            BundleError: for a shift that does not exist.
        """
        steps = list(self.parser.get_parsed_content("preprocessing").transforms)
        place = next((i for i, step in enumerate(steps) if type(step).__name__ in self.protocol.before), len(steps))
        scanner = self._scanner(number + SEEDS_PER_RUN * seed)
        prepared: dict[str, Any] = Compose([*steps[:place], *scanner, *steps[place:]])(dict(self.items[number]))
        return prepared

    def postprocessing(self) -> Any:
        """The evaluate config's postprocessing, which makes binary channels of logits and label."""
        return self.parser.get_parsed_content("postprocessing")

    def _scanner(self, seed: int) -> list[ScannerShiftd]:
        """The simulated scanner as a list of one transform; empty without one."""
        if not self.domain.shift:
            return []
        shift = locate(self.domain.shift)
        if not callable(shift):
            raise BundleError(f"{self.domain.label!r} names the shift {self.domain.shift}, which does not exist")
        return [ScannerShiftd("image", shift(self.domain.severity, seed))]


def _with_folder(value: Any, dataset_dir: Path) -> Any:
    """A key's value, with the folder of the data in place of DATA."""
    return value.replace("DATA", str(dataset_dir)) if isinstance(value, str) else value


def _group(value: Any, domain: Domain) -> str | None:
    """A group's name as rows keep it. It must not tell a patient or a path."""
    if value is None or value == "":
        return None
    word = str(value)
    if not re.fullmatch(r"[\w .+-]{1,24}", word):
        raise BundleError(f"{domain.label!r} has the group {word!r}; a group is a short word (letters, digits, space, . + -)")
    return word
