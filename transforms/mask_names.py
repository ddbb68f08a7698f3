"""Names of masks where `python -m monai.bundle run` writes them: no folder's name is cut, and no two images share a mask.

`monai-tta run` names images itself, before anything is computed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data.utils import create_file_basename


def whole_folder_name(meta: Mapping[str, Any], saver: Any) -> dict[str, Any]:
    """How `SaveImage` is to call a mask, for its ``output_name_formatter``: as MONAI does, but a folder keeps its dots.

    Args:
        meta: the image's meta data.
        saver: the `SaveImage` that asks.

    Returns:
        what MONAI's own formatter returns: "subject", from which the name is made, and "idx", the number of a patch.
    """
    subject = str(meta.get("filename_or_obj", "0"))
    return {"subject": f"{subject}.nii.gz" if os.path.isdir(subject) else subject, "idx": meta.get("patch_index")}


def with_own_masks(datalist: Sequence[Mapping[str, Any]], key: str = "image") -> list[Mapping[str, Any]]:
    """Refuse a list of images of which two would get one mask, the second in the place of the first.

    Args:
        datalist: a dictionary for each image.
        key: of its file or folder.

    Returns:
        the same list.

    Raises:
        ValueError: for two images of one name, such as a.png and a.jpg.
    """
    owners: dict[str, str] = {}
    for case in datalist:
        file = whole_folder_name({"filename_or_obj": case[key]}, None)["subject"]
        name = Path(create_file_basename("", file, "", separate_folder=False, makedirs=False)).name
        if name in owners:
            raise ValueError(
                f"the masks of {case[key]} and {owners[name]} would have one name; rename one, or use `monai-tta run`"
            )
        owners[name] = str(case[key])
    return list(datalist)
