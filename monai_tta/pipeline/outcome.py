"""What came of an image of a run, and how its masks come to their final places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_tta.core.record import Case
from monai_tta.pipeline.beside_masks import BesideMasks, notes_on_older
from monai_tta.pipeline.case_file import label_of
from monai_tta.pipeline.image_segmenter import Segmented, failed
from monai_tta.pipeline.mask_formats import OLDER_FORMAT, other_formats
from monai_tta.pipeline.output_folder import DiskFull, clear, older_masks, publish
from monai_tta.pipeline.run_log import RunLog


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    Args:
        image: the file, or the folder of a DICOM series.
        masks: where its masks are; empty when it failed.
        case: its record; None when it failed.
        error: why it failed; None when it did not.
        earlier_run: whether an earlier run, which was stopped, segmented it.
        number: its place among the images, from 0.
        seconds: wall time from its turn on until it failed, in seconds; 0 where it did not, its record then knows.
        name: what the image is called: in its masks' names, in its record and in messages.
        notes: what a person should know of how it was read, in words.
        beside: what else lies beside its masks.
    """

    image: Path
    masks: tuple[Path, ...] = ()
    case: Case | None = None
    error: str | None = None
    earlier_run: bool = False
    number: int = 0
    seconds: float = 0.0
    name: str = ""
    notes: tuple[str, ...] = ()
    beside: BesideMasks = BesideMasks()

    @property
    def label(self) -> str:
        """What messages call the image, see `label_of`."""
        return label_of(self.image, self.name)


class Publisher:
    """Moves the masks of one image after the other to their final places, and notes in the run log that they are there.

    Args:
        run_log: of the run.
    """

    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log
        self._taken = {file for files in run_log.masks.values() for file in files}
        self._taken |= {file for beside in run_log.beside.values() for file in beside.files().values()}

    def finish(self, number: int, segmented: Segmented, partial: Path | None) -> Outcome:
        """Publish what was written for an image, and empty the folder in which it was.

        Args:
            number: of the image.
            segmented: what came of it.
            partial: the folder; None where there is none.

        Raises:
            DiskFull: when the disk is full or read-only, which no further image could change.
        """
        outcome = self._publish(number, segmented, partial)
        if partial is not None:
            clear(partial)
        return outcome

    def _publish(self, number: int, segmented: Segmented, partial: Path | None) -> Outcome:
        log = self._run_log
        if segmented.case is not None and partial is not None:
            try:
                files = publish(partial, log.out, self._taken, log.images)
                beside = segmented.beside.placed(lambda file: log.out / file)
                masks = tuple(file for file in files if file not in beside.files().values())
                notes = (*segmented.notes, *notes_on_older(masks, log.names[number], beside))
                if any(other not in self._taken for file in files for other in other_formats(file)):
                    notes = (*notes, OLDER_FORMAT)
                case = replace(segmented.case, number=number, image_hash=segmented.content or None)
                log.done(number, case, masks, segmented.content, notes, beside)
                return earlier_outcome(log, number)
            except Exception as error:  # whatever is wrong with one image must not end the run
                segmented = failed(error, segmented.seconds)
        if segmented.disk_full:
            raise DiskFull(f"no room to write in {log.out}: {segmented.error}")
        words = f"{segmented.error}{_words_on(older_masks(log.out, log.names[number], log.names, self._taken), log.out)}"
        return Outcome(log.images[number], error=words, number=number, seconds=segmented.seconds, name=log.names[number])


def earlier_outcome(run_log: RunLog, number: int) -> Outcome:
    """What came of an image that the log knows to be done."""
    return Outcome(
        run_log.images[number],
        run_log.masks[number],
        run_log.cases[number],
        earlier_run=number in run_log.of_earlier_run,
        number=number,
        name=run_log.names[number],
        notes=run_log.notes[number],
        beside=run_log.beside[number],
    )


def _words_on(older: Sequence[Path], out: Path) -> str:
    """A warning of masks that pass for those of an image that failed."""
    names = ", ".join(str(mask.relative_to(out)) for mask in older[:3])
    return f"; the mask of an earlier run is still there: {names}" if older else ""
