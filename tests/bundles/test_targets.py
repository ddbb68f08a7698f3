"""Every name of this package that a bundle's config mentions leads to something."""

import re
from pathlib import Path
from pydoc import locate

import pytest

import monai_tta.bundles

ROOT = Path(next(iter(monai_tta.bundles.__path__)))
MENTIONS = sorted(
    {
        (file.relative_to(ROOT).as_posix(), name)
        for file in ROOT.rglob("*.yaml")
        for name in re.findall(r"monai_tta(?:\.\w+)+", file.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize(("file", "name"), MENTIONS)
def test_a_name_in_a_config_leads_to_something(file, name):
    assert locate(name) is not None, f"{file} mentions {name}, which is not there"


def test_there_are_names_to_look_up():
    assert len(MENTIONS) > 20
