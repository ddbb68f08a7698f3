"""Evidence made by hand for the tests of guards: boxes as answers, and reference ranges that fit them."""

import torch

from monai_tta.guards.evidence import Evidence
from monai_tta.guards.reference_ranges import CaseFigures, ranges_of_cases
from monai_tta.guards.shape_features import ShapeFeatures

REFERENCE = ranges_of_cases(
    [CaseFigures((ShapeFeatures(v, 1, 1.0 + v / 1000, 0.9),), 0.1 + v / 1000, (0.2, 0.4), "voxel") for v in (90, 110)], False
)


def box_logits(*boxes, dims=2, head="softmax", size=24):
    """Logits of one structure made of boxes ``(start, stop)`` along every axis."""
    mask = torch.zeros(*[size] * dims)
    for start, stop in boxes:
        mask[(slice(start, stop),) * dims] = 1
    one = (mask * 2 - 1)[None, None] * 6
    return torch.cat([torch.zeros_like(one), one], 1) if head == "softmax" else one


def must_not_be_computed(*_):
    raise AssertionError("a guard asked for something that costs and that it does not need")


def evidence(adapted, unadapted=must_not_be_computed, head="softmax", spacing=None, distances=None):
    """Evidence of these logits; everything else fails when a guard asks for it."""
    made = Evidence(
        adapted=adapted,
        head=head,
        shadow=None,
        spacing=spacing,
        compute_unadapted=unadapted if callable(unadapted) else lambda: unadapted,
        compute_source=must_not_be_computed,
        compute_windows=must_not_be_computed,
        compute_fresh=must_not_be_computed,
    )
    if distances is not None:
        made.__dict__["distances"] = distances
    return made
