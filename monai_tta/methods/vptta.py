"""VPTTA: visual prompt-based test-time adaptation (Chen, Pan, Ye, Lu, Xia; CVPR 2024; arXiv 2311.18363)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_tta.core.bank_shadow import BankShadow
from monai_tta.core.method import Descent, Loss
from monai_tta.core.normalization import AdaptiveNorm, StatisticsFrom
from monai_tta.core.objectives import Head
from monai_tta.core.optimizers import Adam, OptimizerSpec
from monai_tta.core.prompt import PROMPT, Prompt
from monai_tta.core.record import Step
from monai_tta.core.selection import Selection
from monai_tta.core.shadow import Shadow
from monai_tta.core.tasks import StatisticsTask, Task


class PromptedShadow(BankShadow):
    """A shadow that counts the images of its stream and remembers their prompts.

    Attributes:
        n_images: how many images it has adapted to.
        bank: amplitudes of earlier images, flattened, each with the prompt ``(1, C, *sizes)`` that was learnt for it.
    """

    def __init__(self, source: nn.Module, head: Head, select: Selection, statistics: StatisticsFrom, bank_size: int) -> None:
        super().__init__(source, head, select, statistics, 1.0, bank_size)
        self.n_images = 0
        self.norms = [m for m in self.module.modules() if isinstance(m, AdaptiveNorm) and m.has_running_stats]
        for layer in self.norms:
            layer.correction = 1
            layer.detached = True

    def state(self) -> dict[str, Any]:
        """What the stream has learnt, with the number of its images and the bank."""
        return super().state() | {"n_images": self.n_images}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.n_images = int(state["n_images"])


@dataclass(frozen=True, kw_only=True)
class VPTTA(Descent):
    """Change the low frequencies of an image until the features' statistics come close to the source's; no weight moves.

    Chen et al., CVPR 2024, arXiv 2311.18363. A prompt multiplies the image's low-frequency amplitudes (`Prompt`). One step
    moves it down the distance between each window's feature statistics and those that normalise the window. These are a
    mixture of the present ones and the source's, in which the present share falls with the number of images seen: the paper's
    warm-up. A bank keeps the prompts of a stream. Once it holds ``neighbors`` of them, an image's prompt starts from those of
    its most similar predecessors.

    It is meant for streams (reset="never"). A step costs one forward and backward pass of the adaptation windows. The
    bank keeps amplitudes of earlier images, which are patient data: a few numbers for each channel, ``bank_size`` times.
    bank_size=0 keeps none. It needs running statistics of the source in the network, so BatchNorm.

    Ours: prompts are centred on zero frequency (`Prompt(published=True)` places them as the code does), each axis has its own
    frequencies, windows of one volume share a prompt, and the bank holds 40 prompts where the code lets 41 in.

    Args:
        select: the prompt. Other tensors may move in its place, and then there is no bank.
        blend: the largest share of the present statistics. Image n uses ``blend / (sqrt(n) / warm_up + 1)``.
        optimizer: the paper's rate for photographs of the optic disc; 0.01 for polyps. Its moments persist over a stream.
        objective: the loss, in feature units.
        warm_up: how slowly the present share falls, 0 or more. 0 always uses the source's; infinity always the largest share.
        bank_size: how many prompts the bank keeps, the latest; 0 for none.
        neighbors: how many prompts a new one starts from. With fewer in the bank it starts from ones.
        temperature: of the softmax over cosines of amplitudes that weights these prompts, above 0.

    Raises:
        ValueError: for choices out of range.
    """

    select: Selection = Prompt()
    optimizer: OptimizerSpec = Adam(lr=0.05, betas=(0.9, 0.99))
    objective: Task = StatisticsTask()
    warm_up: float = 5.0
    bank_size: int = 40
    neighbors: int = 16
    temperature: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up < 0 or self.bank_size < 0 or self.neighbors < 1 or self.temperature <= 0:
            raise ValueError(
                "warm_up and bank_size are 0 or more, neighbors 1 or more and temperature above 0, found "
                f"{self.warm_up}, {self.bank_size}, {self.neighbors} and {self.temperature}"
            )

    def present_share(self, n_images: int) -> float:
        """The share of present statistics for the ``n_images``-th image of a stream, from 1, in [0, 1]."""
        return self.blend / (n_images**0.5 / self.warm_up + 1) if self.warm_up else 0.0

    @property
    def is_continual(self) -> bool:
        """Yes: its bank and its count of images belong to a stream."""
        return True

    @property
    def candidate_features(self) -> Mapping[str, float]:
        """The first image's share of present statistics, and the step size: the learning rate times the number of steps."""
        return {"blend": self.present_share(1), "step size": self.optimizer.lr * self.steps}

    def begin(self, source: nn.Module, head: Head) -> Shadow:
        """A shadow with a prompt of ones and an empty bank."""
        shadow = PromptedShadow(source, head, self.select, self.statistics, self.bank_size)
        shadow.optimizer = self.optimizer.build(shadow.moving)
        return shadow

    def loss(self, shadow: Shadow, windows: Tensor) -> Tensor:
        """Distance of feature statistics, in feature units."""
        return self.objective(shadow, windows)

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """Start the prompt from the bank, take ``steps`` steps, and add the prompt to the bank."""
        assert isinstance(shadow, PromptedShadow)
        shadow.n_images += 1
        for layer in shadow.norms:
            layer.blend = self.present_share(shadow.n_images)
        key = self._start_prompt(shadow, windows)
        if self.pools_statistics:
            shadow.pool_statistics(windows)  # once more: by now the share and the prompt are this image's
        steps = super().adapt(shadow, windows, loss)
        if key is not None:
            shadow.bank.append((key, shadow.module.get_parameter(PROMPT).detach().clone()))
        return steps

    @torch.no_grad()
    def _start_prompt(self, shadow: PromptedShadow, windows: Tensor) -> Tensor | None:
        """Set the prompt to where it starts for these windows; return their amplitudes, unless other tensors move."""
        if not isinstance(self.select, Prompt):
            return None
        key = self.select.amplitudes(windows).flatten()
        prompt = shadow.module.get_parameter(PROMPT)
        known = [(earlier, learnt) for earlier, learnt in shadow.bank if earlier.shape == key.shape]
        if len(known) < self.neighbors:
            prompt.fill_(1)
            return key
        similarities = torch.stack([torch.cosine_similarity(key, earlier, dim=0) for earlier, _ in known])
        nearest = similarities.topk(self.neighbors)
        weights = (nearest.values / self.temperature).softmax(0)
        learnt = torch.stack([known[k][1] for k in nearest.indices.tolist()])
        prompt.copy_((weights.view(-1, *[1] * prompt.ndim) * learnt).sum(0))
        return key
