"""Made-up calibration cases, whose gains are known by construction."""

import numpy as np
import torch

from monai_tta.preparation.examples import CalibrationSet
from monai_tta.quality.features import FEATURES
from monai_tta.quality.mixture_weights import PredictedGains


def calibration_set(name="a/b", n=60, seed=0, harm=0.0):
    """Cases of two answers each, made from twelve images.

    The first answer is the unadapted one. The second is better by what its feature says, except in a share ``harm`` of the cases,
    in which it finds nothing.
    """
    rng = np.random.default_rng(seed)
    made = CalibrationSet(name)
    for k in range(n):
        label = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
        label[..., 2:8, 2:8] = True
        quality = rng.uniform()
        unadapted = label.float() * 0.9
        unadapted[..., 2:5, :] = 0.1
        better = label.float() * 0.9
        better[..., 2 : 5 - int(3 * quality), :] = 0.1
        if rng.uniform() < harm:
            better = better * 0
        features = torch.from_numpy(rng.normal(size=(2, len(FEATURES))))
        features[:, FEATURES.index("distance of late layers")] = quality
        features[:, FEATURES.index("blend")] = torch.tensor([0.0, 1.0])
        made.add(k % 12, features, features, torch.stack([unadapted, better]), unadapted, label, "sigmoid")
    return made


def predicted(gain, spread):
    """Gains and spreads of which two spreads are taken off."""
    gain, spread = np.array(gain), np.array(spread)
    return PredictedGains(gain, spread, 2 * spread)
