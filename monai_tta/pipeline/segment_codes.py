"""What the segments of a DICOM Segmentation are called, and by which codes: the bundle's, or else codes of this project alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_tta.pipeline.mask_labels import LONGEST_TEXT, LabelAmount, output_of

PRIVATE = "99MONAI_TTA"  # designators that begin with 99 are private ones
CATEGORY = ("structure", PRIVATE, "Structure that a network finds")
Triple = tuple[str, str, str]  # value, scheme and meaning of a code


@dataclass(frozen=True)
class StructureCodes:
    """What a structure is, in codes.

    Args:
        category: such as an anatomical structure.
        kind: which one, such as a kidney; DICOM calls it the type.
        modifier: which part or side of it, such as the left one; None for all of it.
    """

    category: Triple
    kind: Triple
    modifier: Triple | None = None


@dataclass(frozen=True)
class SegmentCodes:
    """The codes that a bundle's ``metadata.json`` gives for its labels, beside their names.

    Args:
        by_name: the codes of each label, by its name.
    """

    by_name: Mapping[str, StructureCodes]

    @classmethod
    def of_metadata(cls, metadata: Any) -> SegmentCodes:
        """The ``codes`` of the output whose ``channel_def`` names the labels.

        Each is ``{"name": ..., "category": [value, scheme, meaning], "type": [...], "modifier": [...]}``. Without a category it
        is the private one; the modifier may be left out, too.

        Args:
            metadata: what ``metadata.json`` holds.

        Raises:
            ValueError: for codes of another form. A wrong code is worse than none.
        """
        said = output_of(metadata).get("codes") or []
        try:
            return cls({str(one["name"]): _codes_of(one) for one in said})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(
                "the codes in metadata.json are a list of {name, category, type, modifier}, where all but the name are each a "
                f"list of value, scheme and meaning ({type(error).__name__}: {error})"
            ) from error

    def describe(self, number: int, label: LabelAmount, bundle: str, version: str) -> Any:
        """The description of a segment, as highdicom has it.

        Args:
            number: of the segment, from 1.
            label: what it is.
            bundle: the name of the bundle that found it.
            version: of the bundle.
        """
        from highdicom.content import AlgorithmIdentificationSequence
        from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
        from highdicom.sr.coding import CodedConcept
        from pydicom.sr.codedict import codes

        name = label.name or f"label {number if label.value is None else label.value}"
        known = self.by_name.get(name, StructureCodes(CATEGORY, (name, PRIVATE, name)))
        found = SegmentDescription(
            segment_number=number,
            segment_label=name[:LONGEST_TEXT],
            segmented_property_category=CodedConcept(*known.category),
            segmented_property_type=CodedConcept(known.kind[0], known.kind[1], known.kind[2][:LONGEST_TEXT]),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=AlgorithmIdentificationSequence(
                name=bundle[:LONGEST_TEXT], family=codes.cid7162.ArtificialIntelligence, version=version[:LONGEST_TEXT]
            ),
        )
        if known.modifier:
            found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(*known.modifier)]
        return found


def _codes_of(said: Mapping[str, Any]) -> StructureCodes:
    modifier = said.get("modifier")
    return StructureCodes(_triple(said.get("category", CATEGORY)), _triple(said["type"]), modifier and _triple(modifier))


def _triple(found: Any) -> Triple:
    value, scheme, meaning = found
    if not all(isinstance(part, str) and part for part in (value, scheme, meaning)):
        raise ValueError(f"found {found!r}")
    return value, scheme, meaning
