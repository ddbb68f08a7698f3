"""Read the records of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def folder_of_records(given: Path) -> Path:
    """The folder of masks that is meant by itself or by the records.json in it.

    Raises:
        ValueError: for another file.
    """
    from monai_tta.pipeline.records import JSON_NAME

    if not given.is_file():
        return given
    if given.name != JSON_NAME:
        raise ValueError(f"{given} is not {JSON_NAME}: give that file of a `monai-tta run`, or its --out folder")
    return given.parent


def read_records(masks: Path) -> dict[str, Any]:
    """What the records.json of a run holds.

    Args:
        masks: the folder of its masks.

    Raises:
        ValueError: where there is none, or one that `monai-tta run` did not write.
    """
    from monai_tta.pipeline.image_names import in_this_locale
    from monai_tta.pipeline.records import JSON_NAME, SCHEMA, SCHEMA_VERSION

    file = masks / JSON_NAME
    if not file.is_file():
        raise ValueError(f"{masks} has no {JSON_NAME}: give the --out folder of a `monai-tta run`")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        version = document["schema_version"] if document["schema"] == SCHEMA else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no record of `monai-tta run`") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"{file} has version {version} of the records; this version of monai-tta reads {SCHEMA_VERSION}")
    for case in document["cases"]:
        case |= {key: in_this_locale(case[key]) for key in ("name", "uncertainty_map", "preview") if case.get(key)}
        case |= {key: [in_this_locale(mask) for mask in case[key]] for key in ("masks",) if key in case}
    return dict(document)
