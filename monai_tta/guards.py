"""Whether to keep what was learnt: a guard sees both answers and returns a reason to refuse the adapted one, or None.

A guard is any callable ``(plain, adapted, head) -> str | None`` of logits ``(N, K, *spatial)``.
"""

from torch import Tensor


def finite_answer(plain: Tensor, adapted: Tensor, head: str) -> str | None:
    """Refuse an answer that holds NaN or infinity."""
    return None if bool(adapted.isfinite().all()) else "the adapted answer is not finite"
