"""Sphinx: `make docs`."""

import inspect
import re
from typing import Any

from monai_tta._version import __version__

project = "monai_tta"
copyright = "the monai_tta contributors, Apache-2.0"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
default_role = "py:obj"  # `Name` in a docstring: a link where there is something to link to
html_theme = "furo"
html_title = "monai_tta"
html_show_search_summary = False  # a page that is opened from a disk may not read the others
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"  # each argument's type stands beside its description
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
myst_heading_anchors = 3
# MONAI's own docstrings, inherited by our subclasses, are not written for this builder.
autodoc_inherit_docstrings = False


def argument_descriptions(docstring: str) -> dict[str, list[str]]:
    """The entries of a docstring's ``Args:`` section: the lines of each, by the argument's name."""
    entries: dict[str, list[str]] = {}
    name = None
    inside = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if not line.startswith(" ") and line:
            inside = line == "Args:"
        elif inside and line and (entry := re.match(r" {4}\*{0,2}(\w+)(?: \([^)]*\))?:", line)):
            name = entry[1]
            entries[name] = [line]
        elif inside and line and name:
            entries[name].append(line)
    return entries


def describe_inherited_arguments(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Add what a base class says of an argument that a class takes, too, and says nothing of."""
    if what != "class" or issubclass(obj, Exception):
        return
    own = argument_descriptions("\n".join(lines))
    inherited = {}
    for base in reversed(obj.__mro__[1:]):
        if base.__module__.startswith("monai_tta"):
            inherited |= argument_descriptions(base.__doc__)
    more = [inherited[p] for p in inspect.signature(obj).parameters if p not in own and p in inherited]
    if not more:
        return
    if "Args:" not in lines:
        lines += ["", "Args:"]
    place = lines.index("Args:") + 1 + sum(map(len, own.values()))
    lines[place:place] = [line for entry in more for line in entry]


def setup(app: Any) -> None:
    """Add our step before napoleon reads the docstrings."""
    app.connect("autodoc-process-docstring", describe_inherited_arguments, priority=400)
