"""Self-prompting: a promptable network corrects its answer in rounds, inside any inferer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from monai_tta.core.errors import CannotAdapt
from monai_tta.inference.network import Network, unwrap
from monai_tta.inference.prompt_arguments import PromptArguments, VISTA3DArguments
from monai_tta.inference.prompted_network import ErrorDecoder, PromptedNetwork, PromptRounds

__all__ = ["SelfPrompting", "PromptedNetwork", "PromptRounds", "PromptArguments", "VISTA3DArguments"]


class SelfPrompting(Inferer):
    """Let a promptable network (SAM-like, VISTA3D) make prompts of its own answer, and answer again, in rounds.

    CoSAM, arXiv 2411.10136 (2024). Nothing is learnt at test time. Put it around an `AdaptiveInferer` to adapt as well:
    ``SelfPrompting(inferer=AdaptiveInferer(method=...))``. A method then adapts a copy of the network whose answer is the last
    round's. It does not work the other way round.

    Each window costs one forward pass of the whole network without prompts and up to ``rounds`` with prompts; with prompts,
    windows go one by one. It keeps no image, and needs a network whose logits are one channel per object (head "sigmoid").

    A reconstruction: of the paper we know the abstract and a review. Ours are where points are placed without an error decoder,
    the end of a loop at a mask that stays, objects without a mask that are not asked for again, the form of the error decoder
    (`monai_tta.core.error_decoder`), and the correction ``y (1 - e) + (1 - y) e``. The paper trains all parts together for 2D
    images; here the network stays as it was trained.

    Args:
        rounds: how many answers with prompts follow the first one, at most; 0 or more.
        n_points: how many points per object and round, at most; 1 or more.
        prompt: "points", "box", "mask", or several of these with "+" between them.
        placement: "inside" places points far from the mask's border, "certain" where the network is most certain of the mask.
        arguments: by which keywords the network takes prompts; None for VISTA3D's where it has them, else SAM's.
        error_decoder: predicts the error of an answer; then points are put where it is highest, see `PromptedNetwork`.
        inferer: any MONAI inferer that cuts an image into windows; None shows the network the whole image.

    Raises:
        ValueError: for choices out of range.
    """

    def __init__(
        self,
        rounds: int = 3,
        n_points: int = 1,
        prompt: str = "points",
        placement: Literal["inside", "certain"] = "inside",
        arguments: PromptArguments | None = None,
        error_decoder: ErrorDecoder | None = None,
        inferer: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.how = PromptRounds(rounds=rounds, n_points=n_points, prompt=prompt, placement=placement)
        self.arguments = arguments
        self.error_decoder = error_decoder
        self.inferer = SimpleInferer() if inferer is None else inferer
        self._last: PromptedNetwork | None = None

    def __call__(self, inputs: Tensor, network: Network, *args: Any, **kwargs: Any) -> Any:
        """Answer images ``(N, C, *spatial)``.

        Args:
            inputs: images.
            network: a promptable network; never changed.
            args: what else the network takes.
            kwargs: what else the network takes.

        Returns:
            what the inner inferer returns for the network's main output of the last round.

        Raises:
            ValueError: for a network that takes no such prompts, or whose layers are hidden, or for prompts of the caller's own.
        """
        return self.inferer(inputs, self.prompted(network), *args, **kwargs)

    def prompted(self, network: Network) -> PromptedNetwork:
        """The network with its rounds around it: the same object for the same network, so that a continual stream goes on.

        It is kept, and the network with it, until another network comes.

        Args:
            network: a promptable network.
        """
        try:
            source = unwrap(network)
        except CannotAdapt as error:
            raise ValueError(
                f"{error}. Where SelfPrompting is inside AdaptiveInferer, turn them round: "
                "SelfPrompting(inferer=AdaptiveInferer(method=...))"
            ) from error
        if self._last is None or self._last.network is not source or self._last.training != source.training:
            self._last = PromptedNetwork(source, self.how, self.arguments, self.error_decoder)
        return self._last

    def __getstate__(self) -> dict[str, Any]:
        """Without the network that it saw last."""
        return self.__dict__ | {"_last": None}
