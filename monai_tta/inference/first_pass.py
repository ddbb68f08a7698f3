"""The first pass over an image: which windows the inner inferer cuts, and what the source's answers are like."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_tta.compute.containers import map_tensors
from monai_tta.compute.precision import HALF_DTYPES, Precision, at_least_float32, autocast_for
from monai_tta.core.answer_form import AnswerReader
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.network_copy import in_fast_layout
from monai_tta.core.objectives import Head
from monai_tta.inference.network import Network, explain_failure
from monai_tta.inference.prompt_arguments import without_idle_places
from monai_tta.inference.request import Request
from monai_tta.inference.window_selection import WindowSelector

Extra = tuple[tuple[Any, ...], dict[str, Any]]


def detached_copy(windows: Tensor) -> Tensor:
    """A private copy without meta data. The stitcher may write into the tensor that it handed over, and an inference tensor
    cannot take part in a gradient."""
    return (windows.as_tensor() if isinstance(windows, MetaTensor) else windows).detach().clone()


class StopScan(BaseException):
    """Ends a scan early: nothing more can be learnt from it. No `Exception`, which some inferers catch to try again."""


class SourceProxy:
    """Stands in for the network while an inferer cuts an image into windows. The source answers, and we note what its answers are
    like.

    Args:
        network: what the inferer was given.
        source: the module inside, where it can be seen.
        head: "softmax", "sigmoid" or "auto", which the first answer resolves.
        reader: finds the main output in the network's answers.

    ``needs_main`` says whether an answer without a main output is an error; it is not where nothing adapts.
    """

    def __init__(self, network: Network, source: nn.Module | None, head: Head | Literal["auto"], reader: AnswerReader) -> None:
        self.network = network
        self.source = source
        self.head = head
        self.reader = reader
        self.extra: Extra = ((), {})
        self.answers_have_meta = False
        self.dtype = torch.float32
        self.needs_main = True

    @property
    def resolved_head(self) -> Head:
        """The head, once an answer was seen or where it was given."""
        if self.head == "auto":
            raise RuntimeError("the head is not known before the source has answered a window")
        return self.head

    def answer(self, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer windows ``(N, C, *spatial)`` by the source.

        Raises:
            ValueError: for a wrong number of channels.
            TypeError: for windows of another dtype than the network's, or a network that returns no logits.
        """
        self.extra = without_idle_places(self.source, args, kwargs)
        try:
            # A copy: with one window per batch this is a view of the image, which is still to be answered again.
            outputs = self.reader.ask(lambda: self.network(windows.clone(), *args, **kwargs), windows)
        except RuntimeError as error:
            why = explain_failure(error, windows, self.source)
            if why is None:
                raise
            raise why from error
        try:
            main = self.reader.main(outputs, windows.shape[2:])
        except CannotAdapt:
            if self.needs_main:
                raise
            return outputs
        if not isinstance(main, Tensor) or not 3 <= main.ndim <= windows.ndim:
            found = f"a tensor of shape {tuple(main.shape)}" if isinstance(main, Tensor) else repr(main)[:80]
            name = type(self.source if self.source is not None else self.network).__name__
            kind = ", as a network that classifies whole images" if isinstance(main, Tensor) and main.ndim == 2 else ""
            raise TypeError(f"{name} answered {found}{kind}; logits of each voxel (N, K, *spatial) are needed")
        self.note(main)
        return self.reader.for_user(outputs)

    def restore_format(self, outputs: Any, windows: Tensor) -> Any:
        """An adapted answer in the dtype of the source's answers, and with the windows' meta data where those carry them."""
        outputs = self.reader.for_user(outputs)
        is_half = windows.dtype == self.dtype  # the source answers half-width windows in that, and the shadow in float32
        format_leaf = partial(self._format, to_half=is_half)
        outputs = outputs.to(self.dtype) if isinstance(outputs, Tensor) else map_tensors(format_leaf, outputs)

        def with_meta(leaf: Any) -> Any:
            return MetaTensor(leaf).copy_meta_from(windows, copy_attr=False) if isinstance(leaf, Tensor) else leaf

        return map_tensors(with_meta, outputs) if self.answers_have_meta and isinstance(windows, MetaTensor) else outputs

    def _format(self, leaf: Any, to_half: bool) -> Any:
        """A leaf in float32, where the source answers in float32 and fast arithmetic made it narrower; or back in half width."""
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        if self.dtype == torch.float32:
            return at_least_float32(leaf)
        return leaf.to(self.dtype) if to_half and self.dtype in HALF_DTYPES else leaf

    def note(self, main: Tensor) -> None:
        """Remember what the source's answers are like, by their main output."""
        self.answers_have_meta = isinstance(main, MetaTensor)
        if not isinstance(main, Tensor) or main.ndim < 2:
            return
        if self.head == "auto":
            self.head = self.reader.head_of(main.shape[1])
        self.dtype = main.dtype


class WindowScan(SourceProxy):
    """A first pass at the price of a few answers, or of none where everything is known about them.

    The source answers the first windows of each shape. The other windows get copies of that answer, which cost next to nothing.

    Args:
        network, source, head, reader: see `SourceProxy`.
        precision: in which the source answers.
        see: is called with each batch of windows; None where nobody needs to see them.
        spatial: the image's shape; None if even a window that covers the whole image must be answered.
        any_answer: whether the inner inferer takes any answer, of whatever number of channels.
    """

    def __init__(
        self,
        network: Network,
        source: nn.Module | None,
        head: Head | Literal["auto"],
        reader: AnswerReader,
        *,
        precision: Precision,
        see: Callable[[Tensor], None] | None,
        spatial: tuple[int, ...] | None,
        any_answer: bool,
    ) -> None:
        super().__init__(network, source, head, reader)
        self.precision = precision
        self.see = see
        self.spatial = spatial
        self.any_answer = any_answer
        self._known: dict[Any, Any] = {}

    def answer(self, windows: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer windows, or return a copy of what windows of this shape were answered.

        Raises:
            StopScan: at the first window, where all windows were seen and everything is known about the answers.
        """
        self.extra = without_idle_places(self.source, args, kwargs)
        if self.see is not None:
            self.see(detached_copy(windows))
        if not self._known and self._needs_no_answer(windows):
            if self.see is None or (len(windows) == 1 and tuple(windows.shape[2:]) == self.spatial):
                raise StopScan
            if self.any_answer:
                return windows[:, :1]  # the other windows are still to be seen; what is stitched of these answers is thrown away
        shapes = tuple(tuple(v.shape) for v in (windows, *args, *kwargs.values()) if isinstance(v, Tensor))
        if shapes not in self._known:
            with torch.no_grad(), autocast_for(self.precision, windows):
                self._known[shapes] = super().answer(in_fast_layout(windows), args, kwargs)
            self.dtype = torch.float32 if self.precision == "fast" and windows.dtype == torch.float32 else self.dtype
        return map_tensors(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, self._known[shapes])

    def _needs_no_answer(self, windows: Tensor) -> bool:
        """Whether everything is known about the source's answers beforehand."""
        if self.spatial is None or self.head == "auto" or windows.dtype != torch.float32:
            return False
        return not torch.is_autocast_enabled(windows.device.type)  # under autocast answers may have another dtype

    def choose(self, selector: WindowSelector) -> list[Tensor]:
        """The windows to adapt on, of those that were seen.

        Windows go through the network together only where it is given nothing that belongs to single ones.
        """
        return selector.select(self.logits, self.resolved_head, batch_freely=not any(self.extra))

    def logits(self, windows: Tensor) -> Tensor:
        """The source's logits of windows, in float32."""
        args, kwargs = self.extra
        with autocast_for(self.precision, windows):
            outputs = self.reader.ask(lambda: self.network(in_fast_layout(windows), *args, **kwargs), windows)
            return detached_copy(self.reader.logits(outputs, self.resolved_head)).float()


def scan_windows(
    request: Request, head: Head | Literal["auto"], precision: Precision, see: Callable[[Tensor], None] | None
) -> WindowScan:
    """Let the inner inferer cut an image into windows, show them to ``see``, and find out what the source's answers are like."""
    spatial = tuple(request.image.shape[2:]) if request.restores_meta else None
    scan = WindowScan(
        request.network,
        request.source,
        head,
        request.reader,
        precision=precision,
        see=see,
        spatial=spatial,
        any_answer=request.only_calls,
    )
    with suppress(StopScan):
        request.answer_by(scan.answer, only_looks_at_windows=True)
    return scan
