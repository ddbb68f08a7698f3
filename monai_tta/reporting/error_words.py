"""Errors as people read them: without the classes that Python raised."""

from __future__ import annotations

import re

_CLASS = re.compile(r"\b(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Warning): (?=\S+ )")


def without_error_class(text: str) -> str:
    """A text without names such as ``ValueError:``. Where a single word follows, the name stays: the word would say too little.

    Args:
        text: of an error.

    >>> without_error_class("failed: ValueError: it is damaged (EOFError: it ends early)"), without_error_class("KeyError: 5")
    ('failed: it is damaged (it ends early)', 'KeyError: 5')
    """
    return _CLASS.sub("", text)
