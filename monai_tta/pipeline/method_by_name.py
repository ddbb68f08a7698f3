"""Methods by name: names and what each does without an import, and the method itself with the choices that a user gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monai_tta.pipeline.choices import build_value
from monai_tta.pipeline.match_names import match_name

if TYPE_CHECKING:
    from monai_tta.core.method import AdaptationMethod

_METHODS = Path(__file__).parent.parent / "methods"


def method_summaries() -> dict[str, str]:
    """Every exported method's class name and the first sentence of its docstring.

    They are read from the source files, because importing the methods imports torch, which takes seconds.
    """
    exports = ast.parse((_METHODS / "__init__.py").read_text(encoding="utf-8")).body
    files = {
        name.name: node.module for node in exports if isinstance(node, ast.ImportFrom) and node.module for name in node.names
    }
    return {name: _first_sentence(files[name], name) for name in _exported(exports)}


def find_method_name(name: str) -> str:
    """The class name of the method that a user means, e.g. "ViewAverage" for "view-average".

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    known = {method.lower(): method for method in method_summaries()}
    return known[match_name("method", name, known)]


def named_method(name: str, choices: Iterable[str] = ()) -> AdaptationMethod:
    """The exported method of this name, with the choices given.

    Args:
        name: e.g. "grata"; case, hyphens and underscores do not matter.
        choices: other than the defaults, each as "NAME=VALUE". NAME is a field of the method, or a path to a field of a value
            that it holds: "optimizer.lr=1e-3". VALUE is a number, a word, True, False or None, a tuple of these, or the name of
            a public class where the field takes its instances: "select=Biases". Nothing is evaluated.

    Raises:
        ValueError: for an unknown name or choice, listing the known ones, or a value that the field does not take.
    """
    class_name = find_method_name(name)

    from monai_tta import methods

    method: AdaptationMethod = build_value(getattr(methods, class_name), name, choices)
    return method


def _exported(statements: Sequence[ast.stmt]) -> list[str]:
    """The names in ``__all__``."""
    for node in statements:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{_METHODS / '__init__.py'} has no __all__")


def _first_sentence(module: str, name: str) -> str:
    """The first sentence of a class's docstring; empty where there is none."""
    file = _METHODS / f"{module.rsplit('.', 1)[-1]}.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]
    return ""
