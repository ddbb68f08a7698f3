"""What `monai-tta run` is told of maps of uncertainty: whether to make them, and over which mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from monai_tta.core.views import Views

Uncertainty = Annotated[
    bool, typer.Option("--uncertainty", help="write a map of its uncertainty beside each mask; takes several times as long")
]
Mirrors = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="for --uncertainty: along which axes the network's training images were mirrored, e.g. 0,1; what the bundle's "
        "compare.yaml says if not given",
    ),
]


@dataclass(frozen=True)
class UncertaintyOptions:
    """What the command line says of maps of uncertainty.

    Args:
        on: whether to make them.
        mirrors: the axes as given; None where none were.

    Raises:
        ValueError: for axes that there are not, or without maps.
    """

    on: bool = False
    mirrors: str | None = None

    def __post_init__(self) -> None:
        if self.mirrors is not None and not self.on:
            raise ValueError("--mirrors is for maps of uncertainty; give --uncertainty, too")
        self.axes()

    def axes(self) -> tuple[int, ...] | None:
        """The axes that were given, counted from 0; None where none were."""
        if self.mirrors is None:
            return None
        words = self.mirrors.split(",")
        if not all(word.strip() in ("0", "1", "2") for word in words) or len(set(words)) < len(words):
            raise ValueError(f"--mirrors is a list of axes of the prepared image, from 0 to 2, such as 0,1; found {self.mirrors}")
        return tuple(int(word) for word in words)

    def words(self) -> list[str]:
        """As words of the command line."""
        return (["--uncertainty"] if self.on else []) + ([] if self.mirrors is None else ["--mirrors", self.mirrors])


def views_for_maps(root: Path, options: UncertaintyOptions) -> Views | None:
    """The views that maps compare: every combination of the mirrors that the network was trained with; None for no maps.

    Args:
        root: the bundle's folder.
        options: of the command line.

    Raises:
        ValueError: where nobody says which mirrors these are, or there are none.
    """
    if not options.on:
        return None
    from monai_tta.core.views import Views
    from monai_tta.evaluation.protocol import protocol_of

    axes = options.axes()
    if axes is None and (root / "configs" / "compare.yaml").is_file():
        axes = protocol_of(root).mirrors
    if axes is None:
        raise ValueError(
            "--uncertainty compares mirrored views, and this bundle's compare.yaml does not say along which axes the network's "
            "training images were mirrored: say it by --mirrors, such as --mirrors 0,1. In poses that it never saw, a network "
            "contradicts itself whether its mask is right or not"
        )
    if not axes:
        raise ValueError(
            "--uncertainty compares mirrored views, and by this bundle's compare.yaml its network was trained without any: there "
            "is nothing to compare"
        )
    return Views(mirrors="all", turns=False, axes=axes)
