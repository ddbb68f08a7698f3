"""Whether to keep what was learnt: a guard sees both answers and returns a reason to refuse the adapted one, or None.

A guard is any callable ``(plain, adapted, head) -> str | None`` of logits ``(N, K, *spatial)``.
"""

from torch import Tensor


def finite_answer(plain: Tensor, adapted: Tensor, head: str) -> str | None:
    """Refuse an answer with NaN or infinity where the plain one has none (an image's own NaN is not adaptation's fault)."""
    return "the adapted answer is not finite" if bool((plain.isfinite() & ~adapted.isfinite()).any()) else None
