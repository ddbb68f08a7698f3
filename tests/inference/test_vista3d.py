"""VISTA3D as its bundle asks it: classes belong to the case, and where a window lies matters to clicks alone."""

import pytest
import torch
from monai.apps.vista3d.inferer import point_based_window_inferer
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInfererAdapt
from monai.networks.nets import VISTA3D, SegResNetDS2
from monai.networks.nets.vista3d import ClassMappingClassify, PointMappingSAM

from monai_tta import AdaptiveInferer, Careful, GraTa, Source, Statistics, ViewAverage
from tests.small import FAST, TENT, image, saved_stump

CLASSES = torch.tensor([[1], [3]])


def vista():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SegResNetDS2(in_channels=1, blocks_down=(1, 1), norm="instance", out_channels=8, init_filters=8, dsdepth=1)
        points = PointMappingSAM(feature_size=8, n_classes=8, last_supported=4)
        return VISTA3D(encoder, ClassMappingClassify(n_classes=8, feature_size=8), points).eval()


class AsItsBundle(Inferer):
    """Windows with their places for classes, windows around clicks for clicks; whatever fails is tried once more."""

    def __call__(self, inputs, network, point_coords=None, point_labels=None, class_vector=None, labels=None, label_set=None):
        asked = {"point_coords": point_coords, "point_labels": point_labels, "class_vector": class_vector}
        asked |= {"prompt_class": class_vector, "transpose": True}
        assert network.point_head.last_supported == 4
        if point_coords is not None and bool((point_labels >= 0).any()):
            return point_based_window_inferer(inputs, (16, 16, 16), network, with_coord=True, **asked)
        cut = SlidingWindowInfererAdapt(roi_size=(16, 16, 16), sw_batch_size=1, with_coord=True, padding_mode="replicate")
        try:
            return cut(inputs, network, labels=labels, label_set=label_set, prev_mask=None, **asked)
        except Exception:
            return cut(inputs, network, labels=labels, label_set=label_set, prev_mask=None, **asked)


def answered(method, inferer=None, **asked):
    made = AdaptiveInferer(method=method, inferer=inferer or AsItsBundle(), head="sigmoid")
    with torch.no_grad():
        return made(MetaTensor(image(size=20)), vista(), **asked), made.cases[-1]


METHODS = [
    TENT,
    GraTa(optimizer=FAST),
    Careful(predictor=saved_stump("wide", low=0.2, high=0.2), candidates=(Statistics(), ViewAverage())),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("classes", [CLASSES, CLASSES[:1]])
def test_classes_are_adapted_on_with_places_as_without(method, classes):
    class Placeless(AsItsBundle):
        def __call__(self, inputs, network, class_vector):
            cut = SlidingWindowInfererAdapt(roi_size=(16, 16, 16), sw_batch_size=1, padding_mode="replicate")
            return cut(inputs, network, class_vector=class_vector, prompt_class=class_vector, transpose=True)

    answer, case = answered(method, class_vector=classes)
    expected, _ = answered(method, Placeless(), class_vector=classes)
    assert case.reason is None and answer.shape[1] == len(classes)
    torch.testing.assert_close(answer, expected)
    assert not torch.equal(answer, answered(Source(), class_vector=classes)[0])


def test_padding_in_place_of_clicks_is_no_click():
    points, labels = torch.zeros(2, 1, 3), torch.full((2, 1), -1)
    answer, case = answered(TENT, class_vector=CLASSES, point_coords=points, point_labels=labels, labels=image(size=20))
    assert case.reason is None and case.weight_distance > 0
    torch.testing.assert_close(answer, answered(TENT, class_vector=CLASSES)[0])


@pytest.mark.parametrize("method", [TENT, GraTa(optimizer=FAST), ViewAverage()], ids=lambda method: type(method).__name__)
def test_clicks_keep_the_unadapted_answer_for_the_true_reason(method):
    clicks = {"point_coords": torch.tensor([[[9.0, 9.0, 9.0]]]), "point_labels": torch.ones(1, 1, dtype=torch.long)}
    with pytest.warns(UserWarning, match="the network is given clicks"):
        answer, case = answered(method, class_vector=None, **clicks)
    torch.testing.assert_close(answer, answered(Source(), class_vector=None, **clicks)[0], equal_nan=True)
    assert "sw_batch_size" not in case.reason
