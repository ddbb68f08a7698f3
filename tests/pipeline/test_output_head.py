"""Softmax or sigmoid, as a bundle's postprocessing says."""

import pytest
from monai.apps.vista3d.transforms import VistaPostTransformd
from monai.transforms import Activations, Activationsd, AsDiscrete, AsDiscreted, Compose, EnsureTyped, Lambdad

from monai_tta.pipeline.output_head import head_of


class HoVerNetInstanceMapPostProcessingd(Lambdad):
    """In place of MONAI's, which needs scikit-image."""


CHAINS = {
    "softmax": [
        AsDiscreted("pred", argmax=True),
        [EnsureTyped("pred"), Activationsd("pred", softmax=True)],
        Compose([Compose([AsDiscrete(argmax=True, to_onehot=3)])]),
        # the label's own argmax or threshold says nothing about the prediction
        AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3),
        [Activations(softmax=True), AsDiscrete(threshold=0.5)],
        HoVerNetInstanceMapPostProcessingd("pred", lambda x: x),
    ],
    "sigmoid": [
        [Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)],
        AsDiscreted("pred", threshold=0.0),
        VistaPostTransformd("pred"),
    ],
    "auto": [
        [],
        Compose([EnsureTyped("pred")]),
        AsDiscreted(["pred", "label"], argmax=[False, True]),
        Lambdad("pred", lambda x: x.argmax(0)),
        None,
    ],
}


@pytest.mark.parametrize(("said", "chain"), [(said, chain) for said, chains in CHAINS.items() for chain in chains])
def test_head_is_read_from_the_postprocessing(said, chain):
    assert head_of(chain) == said
