"""What is promised of every attack, whatever it was."""

import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from monai_tta.core.record import Case
from monai_tta.pipeline.run_log import NAME


def prints(folder):
    """Hashes of everything in a folder but what a run writes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "out" in path.relative_to(folder).parts[:1] or path.name.startswith("said"):
            continue
        if path.is_symlink():
            found[path] = str(path.readlink())
        elif path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                digest.update(file.read(1 << 22))
            found[path] = (digest.hexdigest(), path.stat().st_size)
    return found


def broken(attack, result, folder, before):
    """Which promises were broken, in words."""
    said = result.said
    found = []
    if "Traceback" in said or "Error in sys.excepthook" in said:
        found.append("a traceback was shown")
    if result.code not in attack.codes:
        found.append(f"ended with {result.code}, not one of {attack.codes}")
    if attack.says and not re.search(attack.says, " ".join(said.split())):
        found.append(f"does not say {attack.says!r}")
    if result.source_same is False:
        found.append("the source network was changed")
    if prints(folder) != before:
        found.append("an input was changed")
    if attack.call is None and result.code in (0, 2, 3):
        out = Path(attack.words[attack.words.index("--out") + 1]) if "--out" in attack.words else folder / "out"
        found += remains(out, unfinished=result.code == 2) + whole_masks(out, before)
        found += accounted(attack, result, out) if result.code in (0, 3) else one_line(said)
    return found


def remains(out, unfinished=False):
    """Half-written and forgotten files."""
    if not out.is_dir():
        return []
    names = [p.name for p in out.iterdir() if ".partial" in p.name or (p.name == NAME and not unfinished)]
    return [f"left behind: {', '.join(names)}"] if names else []


def whole_masks(out, before=()):
    """Every file at a final name can be read to its end."""
    found = []
    for path in out.rglob("*") if out.is_dir() else ():
        if path in before or not path.is_file() or path.is_symlink() or any(".partial" in part for part in path.parts):
            continue
        try:
            if path.name.endswith((".nii", ".nii.gz")):
                np.asarray(nib.load(path).dataobj)
            elif path.suffix == ".png":
                Image.open(path).load()
        except Exception as error:
            found.append(f"half-written: {path.name}: {error}")
    return found


def accounted(attack, result, out):
    """Each image is in the records and in what was said."""
    said = " ".join(result.said.split())
    records = json.loads((out / "records.json").read_text())
    cases = [r and Case.from_json(json.dumps(r)) for r in records]
    good = sum(case is not None for case in cases)
    found = []
    if len(records) != attack.images:
        found.append(f"{len(records)} records of {attack.images} images")
    if [c.number for c in cases if c] != [i for i, c in enumerate(cases) if c]:
        found.append("records out of order")
    if f"{good} of {len(records)} segmented" not in said:
        found.append(f"not said: {good} of {len(records)} segmented")
    if result.said.count("failed: ") != len(records) - good:
        found.append(f"{result.said.count('failed: ')} failures said, {len(records) - good} on record")
    if (result.code == 0) != (good == len(records)):
        found.append(f"code {result.code} with {good} of {len(records)}")
    if attack.bad is not None and len(records) - good != attack.bad:
        found.append(f"{len(records) - good} failed, not {attack.bad}")
    return found


def one_line(said):
    """A refusal is one line, or typer's usage; warnings and the bar may stand around it."""
    lines = [line for line in said.splitlines() if line.strip() and "segmenting" not in line and "Warning" not in line]
    usage = said.lstrip().startswith("Usage:")
    return [] if usage or 1 <= len(lines) <= 3 else [f"a refusal of {len(lines)} lines"]
