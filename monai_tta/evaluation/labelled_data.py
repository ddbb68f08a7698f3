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

APART = 100_000  # between the scanners' seeds of one run and of the next


class LabelledDomain:
    """The cases of one domain, by number.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: the labelled data; DATA in the domain's keys.
        domain: which.
        protocol: in place of the one in ``configs/compare.yaml``, which then need not be there.

    Raises:
        BundleError: when the evaluate config is missing or lists nothing, or a group is no short word.
    """

    def __init__(self, root: Path, dataset_dir: Path, domain: Domain, protocol: Protocol | None = None) -> None:
        self.domain, self.protocol = domain, protocol or protocol_of(root)
        files = [root / "configs" / f"{name}.yaml" for name in ("inference", "evaluate")]
        for file in files:
            if not file.is_file():
                raise BundleError(f"{file} does not exist; labelled cases are what it lists")
        self.parser = ConfigParser()
        self.parser.read_config([str(file) for file in files])
        self.parser.update({"bundle_root": str(root), "dataset_dir": str(dataset_dir)})
        self.parser.update({k: _filled(v, dataset_dir) for k, v in domain.keys.items()})
        self.items: list[dict[str, Any]] = list(self.parser.get_parsed_content("datalist"))
        if not self.items:
            raise BundleError(f"{dataset_dir} has no case for {domain.label!r} ({domain.keys})")
        self.groups = [_group(item.get("group"), domain) for item in self.items]
        # Which case is which, without a name: the list with the folder left out, digested.
        text = json.dumps([self.items, domain.keys, domain.shift], default=str).replace(str(dataset_dir), "DATA")
        self.digest = sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.items)

    def case(self, number: int, seed: int = 0) -> dict[str, Any]:
        """Load one case, the simulated scanner before the bundle's normalisation.

        Args:
            number: from 0.
            seed: of the run; case and seed together say how the simulated scanner is set.
        """
        steps = list(self.parser.get_parsed_content("preprocessing").transforms)
        place = next((i for i, t in enumerate(steps) if type(t).__name__ in self.protocol.before), len(steps))
        kind = locate(self.domain.shift) if self.domain.shift else None
        if self.domain.shift and not callable(kind):
            raise BundleError(f"{self.domain.label!r} names the shift {self.domain.shift}, which is not there")
        scanner = [ScannerShiftd("image", kind(self.domain.severity, number + APART * seed))] if callable(kind) else []
        loaded: dict[str, Any] = Compose([*steps[:place], *scanner, *steps[place:]])(dict(self.items[number]))
        return loaded

    def postprocessing(self) -> Any:
        """The evaluate config's, which makes binary channels of logits and label."""
        return self.parser.get_parsed_content("postprocessing")


def _filled(value: Any, dataset_dir: Path) -> Any:
    """DATA in a protocol's text stands for the folder given on the command line."""
    return value.replace("DATA", str(dataset_dir)) if isinstance(value, str) else value


def _group(value: Any, domain: Domain) -> str | None:
    """A group's name as it is kept: it must not give a patient or a place on the disk away."""
    if value is None or value == "":
        return None
    word = str(value)
    if not re.fullmatch(r"[\w .+-]{1,24}", word):
        raise BundleError(f"{domain.label!r} has the group {word!r}; a group is a short word (letters, digits, space, . + -)")
    return word
