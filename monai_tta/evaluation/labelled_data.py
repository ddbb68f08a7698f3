"""A domain's labelled cases, as the bundle's evaluate config lists and prepares them, maybe through a simulated scanner."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.transforms import Compose
from torch import Tensor

from monai_tta.evaluation.label_masks import label_on_image_grid
from monai_tta.evaluation.protocol import Domain, Protocol, protocol_of
from monai_tta.pipeline.bundle_config import NO_CHANGES, BundleError, as_bundle_error, config_file, read_parser
from monai_tta.pipeline.config_changes import ConfigChanges
from monai_tta.pipeline.declared_place import check_loaded_place
from monai_tta.pipeline.describe_error import describe_error
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.nnunet_files import is_nnunet_folder
from monai_tta.transforms.shift_mri import ScannerShiftd

SEEDS_PER_RUN = 100_000  # between the simulated scanners' seeds of one run and of the next


class LabelledDomain:
    """The labelled cases of one domain, by number.

    Args:
        root: a bundle with ``configs/evaluate.yaml`` and ``configs/compare.yaml``.
        dataset_dir: the labelled data; DATA in the domain's keys stands for it.
        domain: which cases.
        protocol: in place of the one in ``configs/compare.yaml``, which then need not exist.
        changes: what is laid over the bundle's configs.

    Attributes:
        groups: each case's group (a scanner, a site), or None.
        digest: a hash of the list of cases. It tells lists apart and holds no name.
        images: a hash of the list of images. It is the same for two simulated scanners that look at the same images.

    Raises:
        BundleError: for a missing evaluate config, an empty list of cases, or a group whose name is not a short word.
    """

    def __init__(
        self,
        root: Path,
        dataset_dir: Path,
        domain: Domain,
        protocol: Protocol | None = None,
        changes: ConfigChanges = NO_CHANGES,
    ) -> None:
        self.domain = domain
        self.protocol = protocol or protocol_of(root)
        self.file = config_file(root, "evaluate")
        self.parser = read_parser(root, "inference", "evaluate", changes=changes)
        self.parser.update({"bundle_root": str(root), "dataset_dir": str(dataset_dir)})
        self.parser.update({key: _with_folder(value, dataset_dir) for key, value in domain.keys.items()})
        with as_bundle_error(f"the list of cases in {dataset_dir} (--dataset-dir)", self.file):
            self.items: list[dict[str, Any]] = list(self.parser.get_parsed_content("datalist"))
            self._tell_apart(dataset_dir)
        if not self.items:
            keys = _keys_text(domain)
            raise BundleError(
                f"{dataset_dir} has no case for {domain.label!r} ({keys}); give another --dataset-dir, or other keys"
            )

    def label_of_image(self, case: dict[str, Any]) -> Tensor:
        """The label of a case on the grid of the image that the network is given.

        Args:
            case: what `case` returned.

        Returns:
            ``(L, *spatial)``: class numbers, or a channel for each structure.
        """
        return label_on_image_grid(case)

    def _tell_apart(self, dataset_dir: Path) -> None:
        """Set what comparisons tell lists of cases and images apart by."""
        self.groups = [_group(item.get("group"), self.domain) for item in self.items]
        self.digest = _digest([self.items, self.domain.keys, self.domain.shift], dataset_dir)
        self.images = _digest(self.items, dataset_dir)

    def __len__(self) -> int:
        return len(self.items)

    def case(self, number: int, seed: int = 0) -> dict[str, Any]:
        """Load and prepare one case; the simulated scanner stands before the bundle's normalisation.

        Args:
            number: from 0.
            seed: of the run. Number and seed together are the simulated scanner's seed.

        Raises:
            BundleError: for a case that cannot be read or prepared, or a shift that does not exist.
        """
        with as_bundle_error("preprocessing", self.file):
            steps = list(self.parser.get_parsed_content("preprocessing").transforms)
        place = next((i for i, step in enumerate(steps) if type(step).__name__ in self.protocol.before), len(steps))
        scanner = self._scanner(number + SEEDS_PER_RUN * seed)
        try:
            places = [check_input_file(file) for file in _files_of(self.items[number].get("image"))]
            prepared: dict[str, Any] = Compose([*steps[:place], *scanner, *steps[place:]])(dict(self.items[number]))
            for place_of_file in places:
                check_loaded_place(Path(f"case {number}"), place_of_file, prepared.get("image"))
        except Exception as error:  # MONAI says which transform failed, not which case
            raise BundleError(f"case {number} of {self.domain.label!r} cannot be read: {describe_error(error)}") from error
        return prepared

    def postprocessing(self) -> Any:
        """The evaluate config's postprocessing, which makes binary channels of logits and label."""
        with as_bundle_error("postprocessing", self.file):
            return self.parser.get_parsed_content("postprocessing")

    def _scanner(self, seed: int) -> list[ScannerShiftd]:
        """The simulated scanner as a list of one transform; empty without one."""
        if not self.domain.shift:
            return []
        shift = locate(self.domain.shift)
        if not callable(shift):
            raise BundleError(f"{self.domain.label!r} names the shift {self.domain.shift}, which does not exist")
        return [ScannerShiftd("image", shift(self.domain.severity, seed))]


def labelled_cases(root: Path, dataset_dir: Path, domain: Domain, changes: ConfigChanges = NO_CHANGES) -> LabelledDomain:
    """The labelled cases of a domain, of a bundle or of an nnU-Net.

    Args:
        root: the folder of the bundle, or of the nnU-Net.
        dataset_dir: the labelled data; for an nnU-Net a folder of ``nnUNet_raw``.
        domain: which cases.
        changes: what is laid over the bundle's configs.

    Raises:
        BundleError: as `LabelledDomain` does.
    """
    if is_nnunet_folder(root):
        from monai_tta.evaluation.nnunet_labelled import NnUNetLabelledDomain  # which imports this file

        return NnUNetLabelledDomain(root, dataset_dir, domain)
    return LabelledDomain(root, dataset_dir, domain, changes=changes)


def _digest(value: Any, dataset_dir: Path) -> str:
    """A hash of what a list of cases holds, wherever the data lie."""
    return sha256(json.dumps(value, default=str).replace(str(dataset_dir), "DATA").encode()).hexdigest()[:16]


def _keys_text(domain: Domain) -> str:
    """A domain's keys as a user sets them."""
    return ", ".join(f"{key}={value}" for key, value in domain.keys.items()) or "no key is set"


def _files_of(value: Any) -> list[Path]:
    """The files that a case names as its image; none where it names something else, such as a number or an address."""
    found = value if isinstance(value, list | tuple) else [value]
    return [Path(file).absolute() for file in found if isinstance(file, str | Path) and Path(file).exists()]


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
