"""Fills the templates of pages. A page needs no other file, and asks for nothing on the net."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined


def fill_template(name: str, settings: Mapping[str, Any], facts: Mapping[str, str], **values: Any) -> str:
    """A page. Texts in it are escaped.

    Args:
        name: of a template of this package.
        settings: of the rows' file: how they were made.
        facts: in one line at the top. The versions are said at the end.
        values: what else the template names.
    """
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sentence"] = sentence
    made = {
        "facts": facts,
        "versions": {name: number for name, number in settings.get("versions", {}).items() if number},
        "runs": settings.get("runs", {}),
        "data": settings.get("domains", {}),
        "checkpoints": settings.get("checkpoints", {}),
    }
    return environment.get_template(name).render(**{"holds_pixels": False, **made, **values})


def date_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """When rows were made.

    Args:
        settings: of the rows' file.
    """
    dates = sorted({time[:10] for time in settings.get("runs", {})}) or ["not recorded"]
    return {"date": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"}


def sentence(words: str) -> str:
    """Words as a sentence.

    >>> sentence("adapted on 4 windows"), sentence("It was turned.")
    ('Adapted on 4 windows.', 'It was turned.')
    """
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}"


def embedded(png: bytes) -> str:
    """A picture as the address of an ``img``."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _template(name: str) -> str:
    return files("monai_tta.reporting").joinpath(name).read_text(encoding="utf-8")
