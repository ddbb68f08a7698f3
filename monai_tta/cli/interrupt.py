"""Ctrl-C: the first one stops a command in good order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_in_order() -> Iterator[None]:
    """Raise `KeyboardInterrupt` at the first Ctrl-C; ignore the second, while the command tidies up; end at the third."""
    presses = 0

    def count(number: int, frame: Any) -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            raise KeyboardInterrupt
        if presses > 2:
            os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, count)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if presses else before)  # the process is about to end with 130
