"""What the segments of a DICOM Segmentation are called, and by which codes: the bundle's, or else codes of this project alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_tta.pipeline.mask_labels import LONGEST_TEXT, LabelAmount, output_of

PRIVATE = "99MONAI_TTA"  # designators that begin with 99 are private ones
CATEGORY = ("structure", PRIVATE, "Structure that a network finds")
Triple = tuple[str, str, str]


@dataclass(frozen=True)
class SegmentCodes:
    """The codes that a bundle's ``metadata.json`` gives for its labels, beside their names.

    Args:
        by_name: for a label's name its category and its type, each as value, scheme and meaning.
    """

    by_name: Mapping[str, tuple[Triple, Triple]]

    @classmethod
    def of_metadata(cls, metadata: Any) -> SegmentCodes:
        """The ``codes`` of the output whose ``channel_def`` names the labels.

        Each is ``{"name": ..., "category": [value, scheme, meaning], "type": [value, scheme, meaning]}``; without a category it
        is the private one.

        Args:
            metadata: what ``metadata.json`` holds.

        Raises:
            ValueError: for codes of another form. A wrong code is worse than none.
        """
        said = output_of(metadata).get("codes") or []
        try:
            return cls({str(one["name"]): (_triple(one.get("category", CATEGORY)), _triple(one["type"])) for one in said})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(
                "the codes in metadata.json are a list of {name, category, type}, where category and type are each a list of "
                f"value, scheme and meaning ({type(error).__name__}: {error})"
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
        category, kind = self.by_name.get(name, (CATEGORY, (name, PRIVATE, name)))
        return SegmentDescription(
            segment_number=number,
            segment_label=name[:LONGEST_TEXT],
            segmented_property_category=CodedConcept(*category),
            segmented_property_type=CodedConcept(kind[0], kind[1], kind[2][:LONGEST_TEXT]),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=AlgorithmIdentificationSequence(
                name=bundle[:LONGEST_TEXT], family=codes.cid7162.ArtificialIntelligence, version=version[:LONGEST_TEXT]
            ),
        )


def _triple(found: Any) -> Triple:
    value, scheme, meaning = found
    if not all(isinstance(part, str) and part for part in (value, scheme, meaning)):
        raise ValueError(f"found {found!r}")
    return value, scheme, meaning
