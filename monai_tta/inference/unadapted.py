"""The unadapted answer of an image: the source's own, computed at most once."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Literal

from torch import Tensor

from monai_tta.core.errors import CannotAdapt
from monai_tta.core.objectives import Head
from monai_tta.inference.first_pass import SourceProxy
from monai_tta.inference.network import explain_failure
from monai_tta.inference.request import Request


class UnadaptedAnswer:
    """The source's answer of the whole image, computed when somebody first asks for it.

    ``seconds`` is what it took, and ``head`` what the answer showed the head to be; both are None before.
    """

    def __init__(self, request: Request, head: Head | Literal["auto"]) -> None:
        self._request = request
        self._given_head = head
        self._answer: Any = None
        self.head: Head | Literal["auto"] | None = None
        self.seconds: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether it was computed."""
        return self.seconds is not None

    def get(self) -> Any:
        """The answer, in the inner inferer's container."""
        if not self.is_known:
            began = time.perf_counter()
            proxy = SourceProxy(self._request.network, self._request.source, self._given_head, self._request.reader)
            proxy.needs_main = self._request.reader.main_only
            self._answer = self._request.reader.for_user(self._compute(proxy))
            self._note_head(proxy)
            self.seconds = time.perf_counter() - began
        return self._answer

    def _compute(self, proxy: SourceProxy) -> Any:
        """The inner inferer's answer by the source. An inferer of somebody's own gets the network that the caller handed over."""
        request = self._request
        if request.source is None:
            return request.answer_with(request.network)
        if request.only_calls:
            return request.answer_with(lambda windows, *args, **kwargs: proxy.answer(windows, args, kwargs))
        image = request.image.clone()  # a network may write to its input
        try:
            return request.ask(image, request.network)
        except RuntimeError as error:
            why = explain_failure(error, image, request.source)
            if why is None:
                raise
            raise why from error

    def _note_head(self, proxy: SourceProxy) -> None:
        """Keep the head that the main output shows, where there is one."""
        with suppress(CannotAdapt):
            main = self._request.reader.main(self._answer)
            if isinstance(main, Tensor) and main.ndim > 1:
                proxy.note(main)
        self.head = proxy.head
