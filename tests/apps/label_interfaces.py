"""What of MONAI Label our app is built on, for machines without it: the same names and signatures, and nothing of its own."""

import sys
from enum import Enum
from importlib.util import find_spec
from types import ModuleType


class MONAILabelError(Enum):
    INFERENCE_ERROR = "INFERENCE_ERROR"
    INVALID_INPUT = "INVALID_INPUT"
    APP_INIT_ERROR = "APP_INIT_ERROR"


class MONAILabelException(Exception):
    def __init__(self, error, msg):
        self.error, self.msg = error, msg


class InferType(str, Enum):
    SEGMENTATION = "segmentation"


class InferTask:
    def __init__(self, type, labels, dimension, description, config=None):
        self.type, self.labels, self.dimension, self.description = type, labels, dimension, description
        self._config = dict(config or {})


class MONAILabelApp:
    def __init__(self, app_dir, studies, conf, name="", description="", version="2.0", labels=None):
        self.conf = conf or {}
        self._infers = self.init_infers()


def imitate(monkeypatch):
    """Put these in the place of MONAI Label where it is not installed."""
    if find_spec("monailabel") is not None:
        return
    own = sys.modules[__name__]
    for place in (
        "",
        ".interfaces",
        ".interfaces.app",
        ".interfaces.exception",
        ".interfaces.tasks",
        ".interfaces.tasks.infer_v2",
    ):
        module = ModuleType(f"monailabel{place}")
        for name in ("MONAILabelError", "MONAILabelException", "InferType", "InferTask", "MONAILabelApp"):
            setattr(module, name, getattr(own, name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "monai_tta.apps.monai_label", raising=False)
