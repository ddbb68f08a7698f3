"""What the records of `monai-tta run` say on top: the command and its settings, without the paths of anything."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEFAULTS = {"head": "auto", "learn": "volume", "reset": "volume", "budget": "auto", "seed": 0, "precision": "exact"}


def command_on_record(
    bundle: Path,
    *,
    method: str | None,
    choices: Sequence[str],
    guards: Sequence[str],
    reference: Path | None,
    checkpoint: str,
    device: str | None,
    options: Mapping[str, Any],
    anonymous: bool,
) -> str:
    """The command line with the options that differ from their defaults.

    Paths may name a patient: the images are IMAGES, the folder for masks is OUT, other files go by their last name. ``--restart``
    changes no answer and is left out, so that a resumed run has the command of an undisturbed one.

    Args:
        bundle: the bundle's folder.
        method: as it was named; None for the safe one.
        choices: NAME=VALUE, as given.
        guards: as given.
        reference: the file of reference ranges.
        checkpoint: a file in the bundle's models folder.
        device: as given.
        options: keyword arguments of `AdaptiveInferer` that the command line sets.
        anonymous: whether the records name no case.
    """
    words = ["monai-tta", "run", bundle.resolve().name, "IMAGES", "--out", "OUT"]
    words += [] if method is None else ["--method", method]
    words += [word for choice in choices for word in ("--choose", file_names_alone(choice))]
    for name, default in DEFAULTS.items():
        value = options[name]
        if value != default:
            words += [f"--{name}", str(0 if value is None else value)]
    words += [word for guard in guards for word in ("--guard", guard)]
    words += [] if reference is None else ["--reference", reference.name]
    words += [] if checkpoint == "model.pt" else ["--checkpoint", file_names_alone(checkpoint)]
    words += [] if device is None else ["--device", device]
    words += ["--anonymous"] if anonymous else []
    return shlex.join(words)


def settings_on_record(
    bundle: Path, checkpoint: str, method: str, device: Any, guards: Sequence[str], options: Mapping[str, Any], hashes: Any
) -> dict[str, Any]:
    """Everything that was chosen or found, by name.

    Args:
        bundle: the bundle's folder.
        checkpoint: a file in its models folder.
        method: with all its choices, as records write it.
        device: where the network is.
        guards: as given.
        options: keyword arguments of `AdaptiveInferer` that the command line sets.
        hashes: what `monai_tta.pipeline.segment.settings_of` returned.
    """
    return {
        "bundle": bundle.resolve().name,
        "bundle_hash": hashes["bundle"],
        "checkpoint": file_names_alone(checkpoint),
        "weights_hash": hashes["weights"],
        "method": method,
        "method_file_hashes": hashes["method file"],
        "guards": list(guards),
        "device": str(device),
        **{name: options[name] for name in DEFAULTS},
    }


def file_names_alone(choice: str) -> str:
    """A choice, NAME=VALUE or a value alone, in which a path is its last name.

    >>> file_names_alone("select.file=/data/x/added.npz"), file_names_alone("steps=4")
    ('select.file=added.npz', 'steps=4')
    """
    name, equals, value = choice.rpartition("=")
    return name + equals + value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
