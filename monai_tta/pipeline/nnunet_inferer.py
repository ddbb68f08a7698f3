"""nnU-Net's own sliding windows as an inner inferer, and its ensembles of folds, each of which adapts by itself."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case, StructureQuality
from monai_tta.inference.first_pass import StopScan
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network_proxy import only_looks_at_windows
from monai_tta.methods import Source


class NnUNetWindows:
    """nnU-Net's sliding windows: its steps, its Gaussian and its mirroring, for any network that they are given.

    Args:
        predictor: an ``nnUNetPredictor`` with everything but a network.
        channels: how many channels the network's answer has.

    ``roi_size`` is the size of a window.
    """

    def __init__(self, predictor: Any, channels: int) -> None:
        self.predictor = predictor
        self.channels = channels
        self.roi_size = tuple(int(n) for n in predictor.configuration_manager.patch_size)

    def __call__(self, inputs: Tensor, network: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Answer one image.

        Args:
            inputs: preprocessed, ``(1, C, *spatial)``. A 2D network takes volumes slice by slice, and single slices.
            network: what answers windows.
            args: nothing: networks of nnU-Net take windows alone.
            kwargs: nothing.

        Returns:
            logits ``(1, K, *spatial)`` on the CPU, in float32. They are nnU-Net's numbers, which it keeps in half precision.

        Raises:
            TypeError: for anything besides windows.
            ValueError: for several images.
        """
        if args or kwargs:
            raise TypeError("networks of nnU-Net take windows alone")
        if len(inputs) != 1:
            raise ValueError(f"nnU-Net answers one image at a time, found {len(inputs)}")
        image = (inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs)[0]
        is_slice = image.ndim == 3
        asked = _Asked(network, self.channels)
        predictor = copy.copy(self.predictor)  # calls may come from several threads
        predictor.network = asked
        # While windows are looked at, mirrored copies would count as further windows.
        predictor.use_mirroring = predictor.use_mirroring and not only_looks_at_windows(network)
        logits = predictor.predict_sliding_window_return_logits(image[:, None] if is_slice else image)
        asked.check()
        answer = torch.as_tensor(logits).to("cpu", torch.float32)[None]
        return answer[:, :, 0] if is_slice else answer


class _Asked:
    """What nnU-Net holds for its network: it has no weights, so that nothing but ``network`` can answer.

    A failure is kept until nnU-Net has come to its end: one of its threads would otherwise wait for ever, with the image.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], channels: int) -> None:
        self.network = network
        self.channels = channels
        self.n_calls = 0
        self.failure: Exception | StopScan | None = None

    def to(self, *args: Any, **kwargs: Any) -> _Asked:
        return self

    def eval(self) -> _Asked:
        return self

    def __call__(self, windows: Tensor) -> Tensor:
        self.n_calls += 1
        blank = windows.new_zeros((len(windows), self.channels, *windows.shape[2:]))
        if self.failure is not None:
            return blank
        try:
            # Tensors of inference mode can take no part in a gradient, and nnU-Net writes into what it is answered.
            with torch.inference_mode(False), torch.no_grad():
                return self.network(windows.clone())
        except (Exception, StopScan) as error:
            self.failure = error
            return blank

    def check(self) -> None:
        """Raise what the network raised; and an error where it was never asked, because the answer would not be its own."""
        if self.failure is not None:
            raise self.failure
        if not self.n_calls:
            raise RuntimeError("nnU-Net has not asked the network that it was given")


class FoldsInferer:
    """Adapts each fold of an nnU-Net by itself, and answers the mean of their logits, as nnU-Net does.

    An answer is adapted in all folds or in none: where one fold is answered without adaptation, so are all, for its reason.

    Args:
        method: how to adapt.
        networks: of each fold.
        windows: nnU-Net's sliding windows.
        options: further keyword arguments of `AdaptiveInferer`.

    The records of the last 1,000 images are in ``cases``: one for each image, whatever the number of folds.
    """

    def __init__(self, method: AdaptationMethod, networks: Sequence[nn.Module], windows: NnUNetWindows, **options: Any) -> None:
        self.networks = tuple(networks)
        self.adaptive = AdaptiveInferer(method=method, inferer=windows, **options)
        plain = {key: value for key, value in options.items() if key in ("head", "seed", "quality")}
        self.plain = AdaptiveInferer(method=Source(), inferer=windows, **plain)
        self.cases: deque[Case] = deque(maxlen=1000)
        self._begun = 0

    def __call__(self, inputs: Tensor, network: nn.Module) -> Tensor:
        """Answer one image.

        Args:
            inputs: preprocessed, ``(1, C, *spatial)``.
            network: of the first fold, as the model folder gives it.

        Returns:
            logits ``(1, K, *spatial)`` in half precision on the CPU, which nnU-Net exports.

        Raises:
            ValueError: for another network.
        """
        if network is not self.networks[0]:
            raise ValueError("folds are answered together; give the network that the model folder gives")
        adapts = self.adaptive.settings.method.adapts
        total, cases = self._answer(self.adaptive, inputs, stop=adapts)
        case = _of_all(cases)
        if adapts and cases[-1].reason is not None and len(self.networks) > 1:
            total, others = self._answer(self.plain, inputs, stop=False)
            reason = f"fold {len(cases)} of {len(self.networks)}: {cases[-1].reason}"
            seconds = sum(case.seconds for case in [*cases, *others])
            case = replace(cases[-1], reason=reason, seconds=seconds, **_quality_of_all(others))
        self.cases.append(replace(case, number=self._begun))
        self._begun += 1
        return total

    def _answer(self, inferer: AdaptiveInferer, inputs: Tensor, *, stop: bool) -> tuple[Tensor, list[Case]]:
        """The mean of the folds' logits, and a record of each; with ``stop`` no further than the first that did not adapt."""
        total: Tensor | None = None
        cases: list[Case] = []
        for network in self.networks:
            answer = inferer(inputs, network).half()
            total = answer if total is None else total.add_(answer)
            cases.append(inferer.cases[-1])
            if stop and cases[-1].reason is not None:
                break
        assert total is not None
        return (total.div_(len(cases)) if len(cases) > 1 else total), cases


def _of_all(cases: Sequence[Case]) -> Case:
    """One record for an image whose folds were answered alike: sums of what was done, in the order of the folds."""
    if len(cases) == 1:
        return cases[0]
    known = [case.seconds_unadapted for case in cases if case.seconds_unadapted is not None]
    return replace(
        cases[0],
        precision="fast" if all(case.precision == "fast" for case in cases) else "exact",
        n_windows=sum(case.n_windows for case in cases),
        n_moving=sum(case.n_moving for case in cases),
        steps=tuple(step for case in cases for step in case.steps),
        weight_distance=sum(case.weight_distance**2 for case in cases) ** 0.5,
        changed_fraction=None,  # of the mean, which no fold knows
        seconds=sum(case.seconds for case in cases),
        seconds_unadapted=sum(known) if known else None,
        peak_memory=cases[-1].peak_memory,
        n_kept_source=sum(case.n_kept_source for case in cases),
        restarted="; ".join(case.restarted for case in cases if case.restarted) or None,
        **_quality_of_all(cases),
    )


def _quality_of_all(cases: Sequence[Case]) -> dict[str, Any]:
    """What the mean of the folds is expected to be worth: as much as its folds, on average. It is usually a little better."""
    notes = [f"fold {k + 1} of {len(cases)}: {case.quality_note}" for k, case in enumerate(cases) if case.quality_note]
    return {
        "quality": _mean_quality([case.quality for case in cases]),
        "quality_unadapted": _mean_quality([case.quality_unadapted for case in cases]),
        "quality_note": notes[0] if notes else None,
    }


def _mean_quality(of_folds: Sequence[tuple[StructureQuality, ...] | None]) -> tuple[StructureQuality, ...] | None:
    """The mean of each figure of each structure; None where some fold says nothing."""
    known = [quality for quality in of_folds if quality is not None]
    if len(known) < len(of_folds):
        return None
    means = []
    for of_structure in zip(*known, strict=True):
        figures = [asdict(quality) for quality in of_structure]
        mean = {name: sum(figure[name] for figure in figures) / len(figures) for name in figures[0] if name != "structure"}
        means.append(StructureQuality(structure=of_structure[0].structure, **mean))
    return tuple(means)
