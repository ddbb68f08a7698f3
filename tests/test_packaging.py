"""What is built holds what it should: every pattern of setup.cfg matches, and what is under another licence says so."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITH_WEIGHTS = sorted({file.parents[1] for file in ROOT.glob("bundles/*/models/*.pt")})
LICENCES = r"CC BY-SA 4\.0|CC BY 4\.0|Apache-2\.0"


def setup_cfg():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def oldest_versions():
    """The oldest declared version of each package that an installation for use may need, as constraints for pip."""
    config = setup_cfg()
    others = [text for name, text in config["options.extras_require"].items() if name in ("demo", "report", "calibrate", "dicom")]
    lines = {line for text in [config["options"]["install_requires"], *others] for line in text.split()}
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in lines), "a package without an oldest version"
    return sorted((line.replace(">=", "==") for line in lines), key=str.lower)


def test_the_oldest_versions_are_the_declared_ones():
    """`make oldest` installs these."""
    listed = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").split()
    assert listed == oldest_versions(), "write them into tests/oldest.txt"


def test_every_pattern_of_a_file_matches_one():
    config = setup_cfg()
    places = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    for package, patterns in config["options.package_data"].items():
        folder = ROOT / places[package]
        assert not [pattern for pattern in patterns.split() if not any(folder.glob(pattern))], package
    assert not [pattern for pattern in config["metadata"]["license_files"].split() if not any(ROOT.glob(pattern))]


@pytest.mark.parametrize("bundle", WITH_WEIGHTS, ids=lambda bundle: bundle.name)
def test_a_bundle_with_weights_names_their_data_and_licence(bundle):
    licence = " ".join((bundle / "LICENSE").read_text(encoding="utf-8").split())
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", (ROOT / "docs/licences.md").read_text(encoding="utf-8"), re.M)
    (data, name) = next((data, name) for listed, data, name in table if listed == bundle.name)
    card = (bundle / "docs" / "README.md").read_text(encoding="utf-8").split("## Data and licence")[1].split("\n## ")[0]
    assert name in re.findall(LICENCES, card), "as the bundle's own page says"
    assert {"CC BY-SA 4.0": "by-sa/4.0/", "CC BY 4.0": "licenses/by/4.0/", "Apache-2.0": "Version 2.0"}[name] in licence
    assert data.removeprefix("a test file of ") in licence and "Authors" in licence


def test_bundles_with_a_licence_of_their_own_are_those_with_weights():
    assert [file.parent for file in sorted(ROOT.glob("bundles/*/LICENSE"))] == WITH_WEIGHTS
