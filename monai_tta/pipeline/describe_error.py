"""What went wrong, in one line that a person can use; imports neither torch nor MONAI."""

from __future__ import annotations

import re

LONGEST = 400  # characters


def describe_error(error: BaseException) -> str:
    """The innermost error's kind and message, on one line. MONAI wraps a reader's error in the names of its transforms."""
    while error.__cause__ is not None:
        error = error.__cause__
    message = str(error)
    if "suitable reader" in message:  # MONAI advises to install readers, which are installed
        return "no reader of this bundle can read it: damaged, or not an image of a kind it knows"
    if "suitable writer" in message:
        inner = re.search(r"^[\w.]*(Error|Exception)\b.*$", message, re.M)  # in the tracebacks that MONAI makes part of it
        return f"no writer of this bundle can write its mask: {inner[0][:300] if inner else 'MONAI does not say why'}"
    if "ITK ERROR: " in message:  # a line of ITK's source stands before it
        return " ".join(message.split("ITK ERROR: ")[-1].split())[:LONGEST]
    words = " ".join(message.split()) or ("out of memory" if isinstance(error, MemoryError) else "it does not say why")
    return f"{type(error).__name__}: {words}"[:LONGEST]
