"""The API page names every public name, and nothing that is not there."""

import importlib
import re
from pathlib import Path

import pytest

import monai_tta

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
NAMED = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", PAGE, re.M)


def test_the_page_has_every_name_that_a_user_imports():
    assert not {f"monai_tta.{name}" for name in monai_tta.__all__ if name != "__version__"} - set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_name_on_the_page_exists_and_is_described(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute).__doc__


def test_no_name_is_there_twice():
    assert len(NAMED) == len(set(NAMED))
