"""The API page names every public name, and nothing that is not there."""

import importlib
import inspect
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


def test_what_one_file_defines_is_named_by_one_path():
    """The pages of source code link back by one path for each file; a name with another path would have a dead link there."""
    paths = {}
    for name in NAMED:
        path, _, attribute = name.rpartition(".")
        defined_in = getattr(importlib.import_module(path), attribute).__module__
        paths.setdefault(defined_in, set()).add(path)
    assert not {module: found for module, found in paths.items() if len(found) > 1}


def described(name):
    """Each function on the page with the docstrings that speak of it; of a class with its members, the public methods, too."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    if not inspect.isclass(found):
        yield name, found, f"{found.__doc__} {inspect.getmodule(found).__doc__}"
        return
    if issubclass(found, Exception):
        return
    words = " ".join(base.__doc__ or "" for base in found.__mro__ if base.__module__.startswith("monai_tta"))
    yield name, found, words
    if re.search(rf"autoclass:: {re.escape(name)}\n   :members:", PAGE):
        for member, value in vars(found).items():
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function) and (member == "__call__" or not member.startswith("_")):
                yield f"{name}.{member}", function, f"{function.__doc__} {words}"


@pytest.mark.parametrize("name", NAMED)
def test_each_argument_is_typed_and_described(name):
    for label, function, words in described(name):
        for argument in inspect.signature(function).parameters.values():
            if argument.name in ("self", "cls"):
                continue
            assert argument.annotation is not inspect.Parameter.empty, f"{label}: {argument.name} has no type"
            assert re.search(rf"\b{argument.name}: |``{argument.name}``", words), f"{label}: {argument.name} is not described"
