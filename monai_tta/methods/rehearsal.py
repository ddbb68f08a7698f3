"""Rehearsal: source features against forgetting, after MedCoSS (Ye, Xie, Zhang, Chen, Wu, Xia; CVPR 2024; arXiv 2311.17597)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from monai_tta.compute.number_files import read_once
from monai_tta.core.errors import CannotAdapt, cannot_use
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.network_copy import network_digest
from monai_tta.core.objectives import Head
from monai_tta.core.replay import Replay
from monai_tta.core.shadow import Shadow
from monai_tta.core.stored_features import StoredFeatures, StoredFeaturesError, features_file
from monai_tta.core.wrapper import Wrapper
from monai_tta.methods.grata import GraTa


@dataclass(frozen=True, kw_only=True)
class Rehearsal(Wrapper):
    """Keep what the network does with source features while another method moves its weights.

    A reconstruction after MedCoSS (Ye et al., CVPR 2024, arXiv 2311.17597), which pre-trains on one kind of images after another.
    MedCoSS keeps 5 % of the earlier images, chosen by k-means of their features. It mixes them in pairs, and asks for the
    features that the network gave before the stage. This method asks the same of an adapting shadow: its loss is the inner
    method's, plus ``weight`` times the squared difference between what the shadow's and the source's parts make of stored, mixed
    source features. It is meant for streams (reset="never"), so that the network still works when the source's images return.

    Ours: MedCoSS is no method of test time. No images are kept, but small pieces of the features that parts of the network were
    given, of 5 % of the windows, in 8 bits. Each part is compared by itself, in units of its own output's variance. Parts are
    found without knowing the architecture (`monai_tta.core.replay`). Layers with running statistics normalise the pieces by
    those. What takes the image itself, the first convolution, is not rehearsed.

    `monai-tta rehearsal` makes the file at the source. It holds numbers and no names, but numbers that come from patients: early
    features look like the image, so the file may go where the source's images may go, unless their owner says otherwise. Each
    loss costs two forward passes and a backward pass of the pieces, besides the inner method's. Nothing is kept of the images
    that the network adapts to.

    Args:
        inner: the method that adapts.
        file: what `monai-tta rehearsal` wrote. "auto" is the file beside a bundle's checkpoint, where there is one.
        weight: of the difference, 0 or more; 1 in the paper, where it stands beside another loss.
        mix: whether stored features are mixed in pairs, with shares uniform in [0, 1].

    Raises:
        ValueError: for a weight below 0.
    """

    inner: AdaptationMethod = GraTa()
    file: str = "auto"
    weight: float = 1.0
    mix: bool = True

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight is 0 or more, found {self.weight}")

    @property
    def is_continual(self) -> bool:
        """Yes: only a stream can forget."""
        return True

    @property
    def record_name(self) -> str:
        """With the name of the file alone, and the inner method as records call that."""
        plain = replace(self, file=Path(self.file).name)
        return repr(plain).replace(repr(self.inner), self.inner.record_name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of features, and those of the inner method."""
        return (*(() if self.file == "auto" else (Path(self.file),)), *self.inner.files)

    def for_checkpoint(self, weights: Path) -> AdaptationMethod:
        """For "auto", the file beside a file of weights, where there is one; and the inner method for the same checkpoint.

        Raises:
            StoredFeaturesError: when a file cannot be read: at once, rather than once per case.
        """
        beside = features_file(weights)
        file = str(beside) if self.file == "auto" and beside.is_file() else self.file
        if file != "auto":
            read_once(StoredFeatures.load, Path(file))
        return replace(self, inner=self.inner.for_checkpoint(weights), file=file)

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """The inner method's shadow, with the stored features to rehearse.

        Raises:
            CannotAdapt: without a file, with one of another network, or where nothing moves that could be rehearsed.
        """
        stored = self._stored_features(source)
        shadow = self.inner.begin(source, head)
        shadow.kept[self] = Replay(shadow, source, stored)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """The inner loss, plus ``weight`` times how far the shadow's parts are from the source's (`Replay.distance`)."""
        loss = self.inner.loss(shadow, windows)
        if not self.weight:
            return loss
        replay: Replay = shadow.kept[self]
        return loss + self.weight * replay.distance(shadow.draw() if self.mix else None)

    def _stored_features(self, source: nn.Module) -> StoredFeatures:
        """The features in the file, which must be this network's."""
        if self.file == "auto":
            raise CannotAdapt(
                "Rehearsal needs features of the source, and this checkpoint has none beside it: make them by "
                "`monai-tta rehearsal BUNDLE --dataset-dir DATA`, or choose file=FILE"
            )
        path = Path(self.file)
        try:
            stored = read_once(StoredFeatures.load, path)
        except StoredFeaturesError as error:
            raise cannot_use(path, error) from error
        if stored.network != network_digest(source):
            raise CannotAdapt(
                f"{path.name} holds features of another network than this {type(source).__name__}, or of one with other weights; "
                "make them again by `monai-tta rehearsal`"
            )
        return stored
