"""What continual inferers carry from case to case."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from torch import nn

from monai_tta.core.shadow import Shadow
from monai_tta.inference.network import Fingerprint


class Stream:
    """What a continual inferer carries from case to case: one shadow per network, and a lock so that calls take turns."""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self.shadows: weakref.WeakKeyDictionary[nn.Module, tuple[Fingerprint, Shadow]] = weakref.WeakKeyDictionary()


streams: weakref.WeakKeyDictionary[Any, Stream] = weakref.WeakKeyDictionary()  # by inferer, for as long as that lives
lock = threading.Lock()
