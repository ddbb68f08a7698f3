"""The source's range of a label stands beside it where it is certain which structure that is and the units agree."""

import json

import pytest

from monai_tta.guards.reference_ranges import Quantiles, ReferenceRanges, StructureRanges
from monai_tta.pipeline.label_ranges import LabelRanges, read_label_ranges
from monai_tta.pipeline.mask_labels import LabelNames
from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.pipeline.shipped_bundles import BUNDLES
from monai_tta.reporting.case_rows import label_rows

NAMES = LabelNames({0: "background", 1: "head", 2: "tail"})
HEAD = {"name": "head", "value": 1, "voxels": 2000, "ml": 2.0}
TAIL = {"name": "tail", "value": 2, "voxels": 900, "ml": 0.9}


def ranges(unit="affine", structures=2):
    volumes = (Quantiles(1000.0, 1500.0, 1900.0), None, Quantiles(1.0, 2.0, 3.0))[:structures]
    return ReferenceRanges(
        cases=30,
        unit=unit,
        labelled=False,
        structures=tuple(StructureRanges(volume=one, components=None, elongation=None, compactness=None) for one in volumes),
        entropy=Quantiles(0, 0, 0),
        distances=(),
        small=8,
    )


def test_it_is_in_the_labels_unit_and_as_the_schema_says():
    head, tail = LabelRanges(ranges(), NAMES).on_record([HEAD, TAIL], "softmax")
    assert head["reference"] == {"low": 1.0, "middle": 1.5, "high": 1.9, "cases": 30, "labelled": False}
    assert tail == TAIL, "no case of the source shows it"
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator(schema["$defs"]["label"] | {"$defs": schema["$defs"]}).validate(head)
    assert label_rows({"labels": [head, tail]}) == [
        ("head", "2.00 ml", "1.00 to 1.90 ml, by the network's own answers; this is more"),
        ("tail", "0.900 ml", ""),
    ]


def test_an_area_of_a_structure_of_a_sigmoid_network():
    names = LabelNames({0: "disc", 1: "cup"})
    (found,) = LabelRanges(ranges(), names).on_record([{"name": "disc", "channel": 0, "pixels": 5, "mm2": 500.0}], "sigmoid")
    assert found["reference"]["low"] == 1000 and label_rows({"labels": [found]})[0][2].startswith("1000 to 1900 mm²")


@pytest.mark.parametrize(
    "known, labels",
    [
        (LabelRanges(None, NAMES), [HEAD]),
        (LabelRanges(ranges("voxel"), NAMES), [HEAD]),
        (LabelRanges(ranges(structures=3), NAMES), [HEAD]),
        (LabelRanges(ranges(), NAMES), [HEAD | {"name": None}]),
        (LabelRanges(ranges(), NAMES), [HEAD, HEAD | {"file": "other"}]),
        (LabelRanges(ranges(), NAMES), [HEAD | {"ml": None}]),
        (LabelRanges(ranges(), LabelNames({})), [HEAD]),
    ],
)
def test_a_wrong_range_is_worse_than_none(known, labels):
    assert known.on_record(labels, "softmax") == labels


def test_they_are_read_from_beside_the_checkpoint_or_from_what_was_given(tmp_path):
    weights = BUNDLES / "hippocampus_mri" / "models" / "model.pt"
    assert read_label_ranges(weights, None, NAMES).ranges.cases == 30
    assert read_label_ranges(tmp_path / "model.pt", None, NAMES).ranges is None
    with pytest.raises(ValueError, match="no reference ranges"):
        read_label_ranges(weights, tmp_path / "lost.json", NAMES)


def test_a_file_for_input_checks_alone_has_none_and_a_damaged_one_is_said(tmp_path):
    shipped = json.loads((BUNDLES / "hippocampus_mri" / "models" / "reference.json").read_text(encoding="utf-8"))
    file = tmp_path / "reference.json"
    file.write_text(json.dumps({"inputs": shipped["inputs"]}), encoding="utf-8")
    assert read_label_ranges(tmp_path / "model.pt", None, NAMES).ranges is None
    for damaged in ("{", json.dumps({"cases": 3}), json.dumps([])):
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match="reference.json"):
            read_label_ranges(tmp_path / "model.pt", None, NAMES)
