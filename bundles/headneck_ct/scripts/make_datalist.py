"""Write datalist.json for SegRap2023's folders: `python make_datalist.py DATA --seed 0`.

It reads headers only. Each case needs both series and its labels, all on one grid; what is wrong is said, and nothing is written.

DATA is where the challenge's archives were unpacked. Labels are the maps of its one-hot folder where that is there, else the
masks beside the series. `--organ-maps` takes corrected maps of parts (the challenge published some) in place of Task001.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from monai_tta.transforms.headneck import STRUCTURES
from monai_tta.transforms.headneck_files import ENDINGS, case_files, check_same_grid

IMAGES = "SegRap2023_Training_Set_120cases"
MAPS = "SegRap2023_Training_Set_120cases_OneHot_Labels"
TASKS = ("Task001", "Task002")


def main(words: list[str] | None = None) -> int:
    """Read the folders and write the list; the exit code: 2 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder that everything is in")
    parser.add_argument("--images", help=f"the folder of cases in DATA; {IMAGES} where it is there, else DATA itself")
    parser.add_argument("--maps", help=f"the folder in DATA with {' and '.join(TASKS)}; {MAPS} where it is there")
    parser.add_argument("--organ-maps", help="a folder in DATA with corrected maps of parts, in place of Task001")
    parser.add_argument("--masks", action="store_true", help="take the masks beside the series although there are maps")
    parser.add_argument("--missing-is-empty", action="store_true", help="a structure without a mask is not in the scan")
    parser.add_argument("--validation", type=float, default=0.2, help="the share of cases for validation")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--out", type=Path, help="DATA/datalist.json if not given")
    chosen = parser.parse_args(words)
    try:
        sections = sections_of(chosen)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    out = chosen.out or chosen.data / "datalist.json"
    out.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{', '.join(f'{len(cases)} {name}' for name, cases in sections.items())} in {out}\n")
    return 0


def sections_of(chosen: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The cases of each section, with paths below DATA.

    Raises:
        ValueError: naming every case with something wrong.
    """
    data = chosen.data
    images = data / (chosen.images or (IMAGES if (data / IMAGES).is_dir() else "."))
    if not images.is_dir():
        raise ValueError(f"{images} is no folder; it holds the cases, e.g. segrap_0001")
    if not 0 <= chosen.validation < 1:
        raise ValueError(f"--validation is a share, at least 0 and below 1, found {chosen.validation}")
    folders = sorted(path for path in images.iterdir() if path.is_dir() and any(case_files(path, ("image", "image_contrast"))))
    if not folders:
        raise ValueError(f"{images} has no case: no folder in it with image.nii.gz or image_contrast.nii.gz")
    maps = None if chosen.masks else _maps_folder(chosen)
    cases, wrong = {}, []
    for folder in folders:
        try:
            cases[folder.name] = _case(folder, maps, chosen)
        except (ValueError, OSError, RuntimeError) as error:
            wrong.append(f"{folder.name}: {error}")
    if wrong:
        raise ValueError("\n".join([*wrong, f"{len(wrong)} of {len(folders)} cases are not usable; no list was written"]))
    names = sorted(cases)
    random.Random(chosen.seed).shuffle(names)
    n_validation = round(len(names) * chosen.validation)
    return {
        "training": [cases[name] for name in sorted(names[n_validation:])],
        "validation": [cases[name] for name in sorted(names[:n_validation])],
    }


def _maps_folder(chosen: argparse.Namespace) -> Path | None:
    """The folder with the maps; None where there is none and none was asked for."""
    folder = chosen.data / (chosen.maps or MAPS)
    if folder.is_dir():
        return folder
    if chosen.maps or chosen.organ_maps:
        raise ValueError(f"{folder} is no folder; it holds {' and '.join(TASKS)}")
    return None


def _case(folder: Path, maps: Path | None, chosen: argparse.Namespace) -> dict[str, Any]:
    """One entry of the list, once everything of it is on one grid."""
    series = case_files(folder, ("image", "image_contrast"))
    for file, name in zip(series, ("image.nii.gz", "image_contrast.nii.gz"), strict=True):
        if file is None:
            raise ValueError(f"no {name}: a case is two registered series")
    if maps is None:
        masks = dict(zip(STRUCTURES, case_files(folder, STRUCTURES), strict=True))
        missing = [name for name, file in masks.items() if file is None]
        if len(missing) == len(masks) or (missing and not chosen.missing_is_empty):
            raise ValueError(f"no mask of {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")
        labels = [file for file in masks.values() if file is not None]
    else:
        labels = []
        for task in TASKS:
            place = chosen.data / chosen.organ_maps if task == TASKS[0] and chosen.organ_maps else maps / task
            (file,) = case_files(place, (folder.name,))
            if file is None:
                raise ValueError(f"no label {place.name}/{folder.name}{ENDINGS[0]}")
            labels.append(file)
    first = _grid(series[0])
    for file in [*series[1:], *labels]:
        check_same_grid(first, _grid(file), (series[0].name, file.name))

    def below(path: Path) -> str:
        return Path(os.path.relpath(path, chosen.data)).as_posix()

    return {"image": below(folder), "label": below(folder) if maps is None else [below(file) for file in labels]}


def _grid(file: Path) -> tuple[Any, Any]:
    """Shape and affine, from the header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    size, spacing, origin = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin()
    if len(size) != 3:
        raise ValueError(f"{file.name} has {len(size)} axes; a series or a mask has 3")
    turn = reader.GetDirection()
    rows = [[turn[3 * row + axis] * spacing[axis] for axis in range(3)] + [origin[row]] for row in range(3)]
    return size, [*rows, [0, 0, 0, 1]]


if __name__ == "__main__":
    raise SystemExit(main())
