"""Choose source features to rehearse: pieces of the windows that stand for all windows, by k-means as in MedCoSS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from monai_tta.core.answer_form import AnswerReader, logits_of
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import in_eval_mode, network_digest
from monai_tta.core.objectives import Head
from monai_tta.core.replay import UnitWatcher
from monai_tta.core.stored_features import StoredFeatures
from monai_tta.inference.network import unwrap
from monai_tta.inference.window_selection import WindowSelector
from monai_tta.preparation.source_data import SourceData, load_source

CLUSTERS = 0.01  # of the windows, as in the paper
KEPT = 0.05


def choose_features(network: nn.Module, windows: Sequence[Tensor], *, seed: int = 0) -> StoredFeatures:
    """Choose the source features that `Rehearsal` keeps, from unlabelled windows of the source.

    As in MedCoSS (Ye et al., CVPR 2024, arXiv 2311.17597), each window is described by the means of its features, and k-means
    makes ``max(1, int(0.01 N))`` clusters of N windows. Of each cluster the ``int(0.05 N) // clusters`` windows nearest to the
    centre are kept, at least one. Here the features are those that the network's units are given (`monai_tta.core.replay`), each
    divided by its standard deviation over windows. Of a kept window a small piece of each unit's features is stored, and nothing
    of the image.

    Args:
        network: the trained network. It is never changed.
        windows: ``(1, C, *spatial)`` each, preprocessed as the network needs them, on its device; all of one size. Each may be
            asked for twice.
        seed: of the pieces' places and of k-means.

    Returns:
        the features; ``save(Path("rehearsal.npz"))`` makes the file for ``Rehearsal(file="rehearsal.npz")``.

    Raises:
        CannotAdapt: for a network without units, or one that cannot be copied.
        ValueError: without windows, or with windows of several sizes.
        ImportError: when scikit-learn is not installed.
    """
    if not windows:
        raise ValueError("there is no window to choose features from")
    source = unwrap(network)
    watcher = UnitWatcher(source, windows[0])
    means = torch.stack([watcher.means(window) for window in windows])
    chosen, n_clusters = choose_samples(means, seed)
    pieces = [watcher.pieces(windows[number], seed + number) for number in chosen]
    if len({tuple(p.shape for p in some.values()) for some in pieces}) > 1:
        raise ValueError("the windows have several sizes: choose features with a roi_size that every image has")
    units = {name: torch.cat([some[name] for some in pieces]).cpu().float() for name in watcher.names}
    about = {"windows": len(windows), "clusters": n_clusters, "samples": len(chosen), "seed": seed}
    return StoredFeatures(units, network_digest(source), about)


def choose_samples(means: Tensor, seed: int = 0) -> tuple[list[int], int]:
    """Which of the windows stand for all, from the means of their features ``(N, features)``.

    Returns:
        their numbers in rising order, and the number of clusters.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ImportError("choosing features needs scikit-learn: pip install 'monai-tta[calibrate]'") from error
    count = len(means)
    n_clusters = max(1, int(CLUSTERS * count))
    per_cluster = max(1, int(KEPT * count) // n_clusters)
    scaled = (means / means.std(0, correction=0).clamp_min(1e-12)).double().numpy()
    fitted = KMeans(n_clusters, n_init=10, random_state=seed).fit(scaled)
    distances = fitted.transform(scaled)
    chosen: set[int] = set()
    for cluster in range(n_clusters):
        members = [n for n in range(count) if fitted.labels_[n] == cluster]
        chosen.update(sorted(members, key=lambda n: distances[n, cluster])[:per_cluster])
    return sorted(chosen), n_clusters


def rehearsal_of_bundle(
    root: Path,
    dataset_dir: Path,
    checkpoint: str = "model.pt",
    keys: dict[str, Any] | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Iterator[int | StoredFeatures]:
    """Choose source features from a bundle's own images, read by its evaluate config (with ``keys`` set); no label is used.

    Each image gives one window, the one that `AdaptiveInferer` would adapt on.

    Args:
        root: the folder of the bundle.
        dataset_dir: the folder with the images and labels that the bundle's configs name.
        checkpoint: a file in the bundle's ``models`` folder.
        keys: entries of the evaluate config to set, as ``--set`` does.
        seed: of places and of k-means.
        device: where the network computes, e.g. "cuda:0"; None for where the bundle puts it.

    Yields:
        after each image, how many are done; at last the features.

    Raises:
        BundleError: for a bundle without cases. Others as `choose_features`.
    """
    source = load_source(root, dataset_dir, checkpoint, keys, device)
    found: list[tuple[Tensor, Head]] = []
    yield from collect_windows(source, found)
    windows = [window for window, _ in found]
    size = max((w.shape for w in windows), key=[w.shape for w in windows].count)
    bundle = source.bundle
    yield choose_features(bundle.network, [w.to(bundle.device) for w in windows if w.shape == size], seed=seed)


def collect_windows(source: SourceData, found: list[tuple[Tensor, Head]]) -> Iterator[int]:
    """Add to ``found`` the window of each image that would be adapted on, on the CPU, and the head.

    Args:
        source: the images with their bundle.
        found: what is added to.

    Yields:
        after each image, how many are done.

    Raises:
        CannotAdapt: where no image has such a window.
    """
    bundle = source.bundle
    network = in_eval_mode(unwrap(bundle.network))
    for number in range(len(source.domain)):
        image = source.domain.case(number)["image"][None].as_tensor().to(bundle.device)
        window = adaptation_window(network, bundle.inferer, image, source.head)
        found += [] if window is None else [(window[0].cpu(), window[1])]
        yield number + 1
    if not found:
        raise CannotAdapt("no image has a window that could be adapted on")


def adaptation_window(
    network: nn.Module, inferer: Callable[..., Any], image: Tensor, head: Head | Literal["auto"]
) -> tuple[Tensor, Head] | None:
    """The window of an image ``(1, C, *spatial)`` that would be adapted on, and the head; None where there is none."""
    selector = WindowSelector(1)

    def offer(windows: Tensor, *_: Any, **__: Any) -> Tensor:
        """Take the network's place: note every window, and answer anything."""
        selector.offer(torch.as_tensor(windows).detach().clone())
        return windows[:, :1]

    with torch.no_grad():
        inferer(image, offer)
        if not selector.shortlist.kept:
            return None
        if head == "auto":
            reader = AnswerReader(type(network).__name__)
            first = selector.shortlist.kept[0].window
            head = reader.head_of(reader.main(reader.ask(partial(network, first), first)).shape[1])
        return selector.select(partial(logits_of, network, head=head), head)[0], head
