"""What the documentation shows is run, and what it lists is complete."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from monai_tta import __version__, methods
from monai_tta.cli.app import app
from monai_tta.cli.demo import BUNDLE
from monai_tta.core.record import Case
from monai_tta.guards import Agreement, Components, Distance, Entropy, Finite, Shape, VolumeChange, WeightDistance
from monai_tta.pipeline.records import SCHEMA_FILE, SCHEMA_VERSION
from tests.attack.arena import save, small_bundle, volume
from tests.mutants.table import MUTANTS

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_commands_of_the_pipelines_page_run(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    scan = rng.normal(size=(33, 34, 35)) + 3 * np.pad(np.ones((13, 14, 15)), 10)  # something that may be found
    nib.save(nib.Nifti1Image(scan.astype(np.float32), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    commands = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs/pipelines.md").read_text(encoding="utf-8"), re.S | re.M)
    assert len(commands) == 3
    places = {"BUNDLE": str(BUNDLE), "OVERLAYS": str(BUNDLE.parent / "overlays"), "SCANS": str(tmp_path / "scans")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    masks = []
    for number, command in enumerate(commands):
        out = tmp_path / f"masks{number}"
        done = subprocess.run(
            ["bash", "-ec", command],
            env=os.environ | places | {"MASKS": str(out), "PATH": path},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr[-2000:]
        masks.append(np.asarray(nib.load(next(out.glob("*.nii.gz"))).dataobj))
    assert np.array_equal(masks[0], masks[2]) and not np.array_equal(masks[0], masks[1])
    (record,) = (tmp_path / "masks1.jsonl").read_text(encoding="utf-8").splitlines()
    assert Case.from_json(record).adapted and "Statistics" in Case.from_json(record).method


def test_commands_of_the_replay_page_run(tmp_path):
    """In this process, on a small bundle; a command that may end with another code than 0 has it behind `test $? -eq`."""
    places = {"BUNDLE": str(small_bundle(tmp_path / "bundle")), "SCANS": str(tmp_path / "scans")}
    places |= {name: str(tmp_path / name.lower()) for name in ("MASKS", "OTHER")}
    (tmp_path / "scans").mkdir()
    save(tmp_path / "scans" / "a.nii.gz", volume(np.random.default_rng(0)))
    page = (ROOT / "docs/replay.md").read_text(encoding="utf-8")
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.S | re.M)).splitlines()
    assert len(commands) == 4
    for command in commands:
        words, _, expected = command.partition(" || test $? -eq ")
        result = CliRunner().invoke(app, [places.get(word, word) for word in words.split()[1:]])
        assert result.exit_code in {0, int(expected or 0)}, result.output
        if " replay " in command:
            assert result.stdout in re.findall(r"^```text\n(.*?)^```", page, re.S | re.M)


def test_the_page_of_methods_is_the_one_generated():
    from docs.methods_page import page

    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == page(), "run python -m docs.methods_page"
    assert all(f"`{name}`" in page() for name in methods.__all__)


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_every_package_that_is_installed_is_on_the_page_of_licences():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = [text for name, text in config["options.extras_require"].items() if name not in ("dev", "docs")]
    needed = "\n".join([config["options"]["install_requires"], *extras]).split("\n")
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert not [name for line in needed if (name := re.split(r"[<>=]", line.strip())[0]) and name not in page]


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__


def test_the_page_for_clinicians_has_every_guards_words():
    from tests.guards.example_evidence import REFERENCE, box_logits, evidence

    page = (ROOT / "docs" / "when-to-trust.md").read_text(encoding="utf-8")
    said = [s for row in re.findall(r"^\| \*\*unadapted\*\* \| (.*?) \|", page, re.M) for s in re.findall(r"`([^`]+)`", row)]
    patterns = [re.escape(s).replace(r"\.\.\.", ".*").replace("1", r"\d+") for s in said]
    large, small, two = box_logits((4, 14)), box_logits((4, 9)), box_logits((2, 6), (12, 16))
    far, weights = evidence(large, distances=(0.2, 3.4)), evidence(large)
    object.__setattr__(weights, "shadow", SimpleNamespace(start=[torch.ones(4)], weight_distance=3.0))
    bad = large * float("nan")
    refusals = [
        (Finite(), evidence(bad, large)),
        (VolumeChange(0.1), evidence(small, large)),
        (Agreement(1.0), evidence(small, large)),
        (Components(1), evidence(two)),
        (Shape(REFERENCE), evidence(small)),
        (Entropy(most=0.1), evidence(large * 0)),
        (Distance(most=1.0), far),
        (Distance(reference=REFERENCE), far),
        (Distance(least=9.0), far),
        (WeightDistance(0.1), weights),
    ]
    for guard, case in refusals:
        reason = guard.check(case)
        assert any(re.match(pattern, reason) for pattern in patterns), reason
    guards = (ROOT / "monai_tta" / "guards" / "change.py").read_text(encoding="utf-8")
    assert sum("view" in s for s in said) == 1 and "views agree by" in guards


def test_the_page_of_records_describes_every_entry():
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    for part in (schema, *(schema["$defs"][name] for name in ("run", "case", "label", "reference", "step", "quality"))):
        assert set(part["properties"]) <= listed
    assert f"version {SCHEMA_VERSION}" in page


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_has_a_place_to_be_put(name):
    file, old, new = MUTANTS[name]
    assert old != new and old in (ROOT / "monai_tta" / file).read_text(encoding="utf-8"), (
        f"{old!r} is not in {file}: give the mutant its new wording"
    )
