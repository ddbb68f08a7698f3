"""What is promised of every attack."""

import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from jsonschema import Draft202012Validator
from PIL import Image

from monai_tta.pipeline.records import SCHEMA_FILE
from monai_tta.pipeline.run_log import NAME

VALIDATOR = Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def fingerprints(folder):
    """Hashes of all files in a folder, without those that a run writes."""
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
    """The promises that were broken, in words."""
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
    if fingerprints(folder) != before:
        found.append("an input was changed")
    if attack.call is None and result.code in (0, 2, 3):
        out = Path(attack.words[attack.words.index("--out") + 1]) if "--out" in attack.words else folder / "out"
        found += left_behind(out, unfinished=result.code == 2) + half_masks(out, before)
        found += accounted(attack, result, out, folder) if result.code in (0, 3) else one_line(said)
    return found


def left_behind(out, unfinished=False):
    """Temporary files that are still there, and a run log after a finished run."""
    if not out.is_dir():
        return []
    names = [p.name for p in out.iterdir() if ".partial" in p.name or (p.name == NAME and not unfinished)]
    return [f"left behind: {', '.join(names)}"] if names else []


def half_masks(out, before=()):
    """Masks at their final places that cannot be read to the end."""
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


def no_word_for(constant):
    """Refuse NaN and infinity, which JSON does not know."""
    raise ValueError(f"{constant} is no JSON")


def private(out, folder, anonymous=()):
    """Paths in the records, and names in anonymous ones."""
    found = []
    for name in ("records.json", "records.csv"):
        text = (out / name).read_text(encoding="utf-8")
        unescaped = json.dumps(json.loads(text), ensure_ascii=False) if name == "records.json" else text
        found += [f"{name} holds the path of a folder" for one in {text, unescaped} if folder.name in one]
        found += [f"{name} is anonymous and holds {word!r}" for word in anonymous if word in text or word in unescaped]
    return found


def accounted(attack, result, out, folder):
    """Images that are missing in the records or in the output, and what the records should not hold."""
    said = " ".join(result.said.split())
    document = json.loads((out / "records.json").read_text(encoding="utf-8"), parse_constant=no_word_for)
    records = document["cases"]
    good = sum(record["status"] != "failed" for record in records)
    found = [f"records of another shape: {error.message[:200]}" for error in VALIDATOR.iter_errors(document)]
    found += private(out, folder)
    if len(records) != attack.images:
        found.append(f"{len(records)} records of {attack.images} images")
    if [record["number"] for record in records] != list(range(len(records))):
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
    """A refusal that is neither one line nor typer's usage. Warnings, the progress and failed images may stand around it."""
    others = re.compile(r".*segmenting|.*Warning|\d+/\d+ |failed: ")
    lines = [line for line in said.splitlines() if line.strip() and not others.match(line)]
    usage = said.lstrip().startswith("Usage:")
    return [] if usage or 1 <= len(lines) <= 3 else [f"a refusal of {len(lines)} lines"]
