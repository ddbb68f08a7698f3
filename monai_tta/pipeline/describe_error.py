"""What went wrong, in one line that a person can use; imports neither torch nor MONAI."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 400  # characters
LINKS = "monai_tta-series-"  # how the temporary folder begins in which series have links, see `several_series`
_PLACE_OF_LINKS = re.compile(rf"[^\s'\"]*{LINKS}\w+")
_LONGEST_PATH = 250
_REMOTE = "_RemoteTraceback"  # what a pool of processes gives an error as its cause: another process's traceback, as text


def describe_error(error: BaseException) -> str:
    """The innermost error's kind and message, on one line. MONAI wraps a reader's error in the names of its transforms.

    A series that was read through links is called as if it were a folder beside the one that it lies in.
    """
    return _PLACE_OF_LINKS.sub("", _words_of(cause_of(error)))[:LONGEST]


def _words_of(error: BaseException) -> str:
    """What an error says, on one line."""
    if _is_own(error):
        return " ".join(str(error).split())
    message = str(error)
    if "end-of-stream marker" in message:  # of gzip
        return "the file ends early: it is damaged, or was copied in part"
    if "suitable reader" in message or "create IO object" in message:  # MONAI advises to install readers, which are installed
        return "no reader of this bundle can read it: damaged, or not an image of a kind it knows"
    if "suitable writer" in message:
        inner = re.search(r"^[\w.]*(Error|Exception)\b.*$", message, re.M)  # in the tracebacks that MONAI makes part of it
        return f"no writer of this bundle can write its mask: {inner[0][:300] if inner else 'MONAI does not say why'}"
    if "ITK ERROR: " in message:  # a line of ITK's source stands before it
        return " ".join(message.split("ITK ERROR: ")[-1].split())
    if words := plain_words(error):
        return words
    words = " ".join(message.split()) or ("out of memory" if isinstance(error, MemoryError) else "it does not say why")
    return f"{type(error).__name__}: {words}"


def plain_words(error: BaseException) -> str:
    """What an error says that Python or the system worded: a number and a name of theirs help nobody. Empty for other errors."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        path = _shown(error.filename.decode("utf-8", "backslashreplace") if isinstance(error.filename, bytes) else error.filename)
        if isinstance(error, FileNotFoundError):
            return f"{path} does not exist"
        if isinstance(error, IsADirectoryError):
            return f"{path} is a folder, and should be a file"
        if isinstance(error, NotADirectoryError):
            return f"{path} is a file, or in one, and should be a folder"
        return f"{path}: {error.strerror}"
    if isinstance(error, UnicodeDecodeError):
        return f"a text file holds bytes that are no text in {error.encoding} (byte {error.start})"
    if isinstance(error, KeyError) and len(error.args) == 1 and isinstance(error.args[0], str) and " " not in error.args[0]:
        return f"there is no {error.args[0]!r}"
    return ""


def _shown(path: Any) -> str:
    """A path for a message: between quotes where it holds blanks, so that its end can be told, and without its middle if long."""
    text = str(path)
    text = text if len(text) <= _LONGEST_PATH else f"{text[: _LONGEST_PATH // 2]}...{text[-_LONGEST_PATH // 2 :]}"
    return repr(text) if re.search(r"\s", text) else text


def cause_of(error: BaseException) -> BaseException:
    """The error that another one was raised from, in the end, or the first one on the way that this package worded."""
    while error.__cause__ is not None and not _is_own(error) and type(error.__cause__).__name__ != _REMOTE:
        error = error.__cause__
    return error


def _is_own(error: BaseException) -> bool:
    """Whether an error has a class of this package, so that its message is a sentence for the user."""
    return type(error).__module__.startswith("monai_tta.") and bool(str(error))
