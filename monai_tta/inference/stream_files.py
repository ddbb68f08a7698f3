"""Save what a continual stream has learnt to a file, and continue from it in another process."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from monai_tta.compute.tensor_files import load_tensors, save_tensors
from monai_tta.core.network_copy import network_digest
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.inference.network import fingerprint, unwrap
from monai_tta.inference.streams import Stream, lock, streams

__all__ = ["StreamFileError", "save_stream", "load_stream"]

_FORMAT = 1


class StreamFileError(ValueError):
    """A file that holds no stream, or one of another method or network."""


def save_stream(inferer: AdaptiveInferer, network: Any, file: str | PathLike[str]) -> None:
    """Write what ``inferer`` has learnt from the images that it adapted ``network`` to.

    The file holds moving tensors, the state of their optimiser, and what the method keeps from case to case. For `VPTTA` with a
    bank that includes amplitudes of images, which are patient data. It is complete or not written at all.

    Args:
        inferer: a continual one, with reset="never".
        network: the source network.
        file: where to write.

    Raises:
        StreamFileError: when the inferer has learnt nothing of this network yet.
    """
    source = unwrap(network)
    with lock:
        stream = streams.get(inferer)
    if stream is None or source not in stream.shadows:
        raise StreamFileError(
            f"nothing to save: the inferer has not adapted this {type(source).__name__} yet, or not continually"
        )
    with stream.turn:
        shadow = stream.shadows[source][1]
        content = {
            "format": _FORMAT,
            "method": inferer.settings.method.record_name,
            "network": network_digest(source),
            "head": shadow.head,
            "n_cases": inferer._begun,
            "state": shadow.state(),
        }
    save_tensors(content, Path(file))


def load_stream(inferer: AdaptiveInferer, network: Any, file: str | PathLike[str]) -> None:
    """Let ``inferer`` continue a stream that `save_stream` wrote.

    Args:
        inferer: a continual one, with the method that the stream was saved with.
        network: the source network, with the weights that the stream was saved with.
        file: the saved stream.

    Raises:
        StreamFileError: for a file that cannot be read, another method or another network; the inferer stays as it was.
    """
    if not inferer.settings.continual:
        raise StreamFileError('the inferer starts afresh for each image; continue a stream with reset="never"')
    source = unwrap(network)
    content = _read(Path(file))
    method = inferer.settings.method
    if content["method"] != method.record_name:
        raise StreamFileError(f"{file} is a stream of {content['method']}, and the inferer's method is {method.record_name}")
    if content["network"] != network_digest(source):
        raise StreamFileError(f"{file} is a stream of a network with other weights than this {type(source).__name__}")
    with torch.inference_mode(False):
        shadow = method.begin(source, content["head"])
        try:
            shadow.load_state(content["state"])
        except ValueError as error:  # such as the state of an optimiser that was trained anew since, under the same name
            raise StreamFileError(f"{file} does not fit {method.record_name}: {error}") from error
    with lock:
        stream = streams.setdefault(inferer, Stream())
        inferer._begun = int(content["n_cases"])
    with stream.turn:
        stream.shadows[source] = (fingerprint(source), shadow)


def _read(path: Path) -> dict[str, Any]:
    """The content of a file, of which nothing is executed."""
    try:
        content = load_tensors(path)
    except ValueError as error:
        raise StreamFileError(f"no saved stream: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise StreamFileError(f"{path} is no saved stream of this version")
    return content
