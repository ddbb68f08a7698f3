"""Test-time adaptation for medical image segmentation, as an extension of MONAI.

What a user writes is here by its short name: `AdaptiveInferer`, every method, and every value that these take. The names are
imported when one of them is first asked for, because torch and MONAI take seconds to import and the command line's help needs
neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from monai_tta._version import __version__ as __version__

if TYPE_CHECKING:
    from monai_tta.core.added_parameters import *  # noqa: F403
    from monai_tta.core.masked_context import *  # noqa: F403
    from monai_tta.core.night import *  # noqa: F403
    from monai_tta.core.optimizers import *  # noqa: F403
    from monai_tta.core.prompt import *  # noqa: F403
    from monai_tta.core.restyling import *  # noqa: F403
    from monai_tta.core.selection import *  # noqa: F403
    from monai_tta.core.source_look import *  # noqa: F403
    from monai_tta.core.tasks import *  # noqa: F403
    from monai_tta.core.trust import *  # noqa: F403
    from monai_tta.core.turned_decoders import *  # noqa: F403
    from monai_tta.core.views import *  # noqa: F403
    from monai_tta.guards import *  # noqa: F403
    from monai_tta.inference.inferer import *  # noqa: F403
    from monai_tta.inference.self_prompting import *  # noqa: F403
    from monai_tta.methods import *  # noqa: F403

_PUBLIC_MODULES = (
    "inference.inferer",
    "inference.self_prompting",
    "methods",
    "core.selection",
    "core.prompt",
    "core.night",
    "core.turned_decoders",
    "core.added_parameters",
    "core.optimizers",
    "core.trust",
    "core.tasks",
    "core.masked_context",
    "core.views",
    "core.restyling",
    "core.source_look",
    "guards",
)


def _public_names() -> dict[str, Any]:
    """Every public name and what it stands for; imports torch and MONAI."""
    modules = [import_module(f"monai_tta.{name}") for name in _PUBLIC_MODULES]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def __getattr__(name: str) -> Any:
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'monai_tta' has no attribute {name!r}")
    names = _public_names()
    globals().update(names, __all__=["__version__", *names])
    if name not in globals():
        raise AttributeError(f"module 'monai_tta' has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return ["__version__", *_public_names()]
