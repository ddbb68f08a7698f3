"""DyNA: day and night adaptation (Chen et al.; arXiv 2410.13472)."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from monai_tta.core.diary import Diary
from monai_tta.core.errors import CannotAdapt
from monai_tta.core.method import AdaptationMethod, Loss
from monai_tta.core.night import Night, NightWork
from monai_tta.core.objectives import Head
from monai_tta.core.record import Step
from monai_tta.core.shadow import Shadow
from monai_tta.core.wrapper import Wrapper
from monai_tta.methods.vptta import VPTTA


@dataclass(frozen=True, kw_only=True)
class DyNA(Wrapper):
    """Adapt to each image by day with another method, and fine-tune the network by night on the images that the day has kept.

    Chen et al. 2024, arXiv 2410.13472. By day no weight moves: the inner method is VPTTA. By night a teacher, a student and a
    global student learn from the day's images without labels (`Night`); the paper publishes neither losses nor rates, so the
    night is a reconstruction. `monai-tta night` runs it, checks the result on images that were held back, and writes a new
    checkpoint.

    By day it costs what the inner method costs. A night costs, for each image and epoch, a forward pass of two networks for each
    view and a forward and backward pass. Images are kept only where ``diary`` says, on disk, and only so many. They are patient
    data, and the night burns them. Without a diary there is no night. It needs nothing from the source but what the inner
    method needs.

    Args:
        inner: the method of the day.
        diary: the folder for the day's images; empty keeps none.
        diary_size: the most images to keep, 1 or more.
        night: how the night learns; `TurnedDecoders` is another way.
    """

    inner: AdaptationMethod = VPTTA()
    diary: str = ""
    diary_size: int = 100
    night: NightWork = Night()

    def __post_init__(self) -> None:
        Diary(Path(self.diary), self.diary_size)  # refuses a size out of range

    @property
    def learns(self) -> bool:
        """Whether `adapt` does anything: keeping windows counts."""
        return bool(self.diary) or self.inner.learns

    @property
    def record_name(self) -> str:
        """Without the folder of the diary, which is nobody's business."""
        name = repr(replace(self, diary="DIARY" if self.diary else ""))
        return name.replace(repr(self.inner), self.inner.record_name)

    def adapt(self, shadow: Shadow, windows: Tensor, loss: Loss) -> tuple[Step, ...]:
        """What the inner method does; then keep the windows."""
        steps = self.inner.adapt(shadow, windows, loss)
        if self.diary:
            Diary(Path(self.diary), self.diary_size).add(windows)
        return steps

    def consolidate(self, source: nn.Module, head: Head) -> dict[str, Tensor]:
        """Learn from the diary, but for the images that are held back.

        Raises:
            CannotAdapt: without a diary, or with fewer than five images in it: one of five is held back for a guard.
        """
        if not self.diary:
            raise CannotAdapt("there is no diary, so the night has nothing to learn from; give diary=FOLDER by day")
        diary = Diary(Path(self.diary), self.diary_size)
        if not diary.held_back():
            raise CannotAdapt(f"the diary holds {len(diary.entries())} images; a night needs 5, of which it holds one back")
        return self.night.learn(source, [diary.read(file) for file in diary.to_learn_from()], head)
