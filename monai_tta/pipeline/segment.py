"""Segment many images with one bundle: a bad one is reported and the rest go on, a stopped run can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from monai_tta._version import __version__
from monai_tta.core.method import AdaptationMethod
from monai_tta.core.record import Case
from monai_tta.inference.inferer import AdaptiveInferer
from monai_tta.pipeline.bundle import SourceBundle, describe_error
from monai_tta.pipeline.input_checks import check_input_file
from monai_tta.pipeline.output_folder import DiskFull, clear, is_disk_full, partial_folder, publish, write_atomically
from monai_tta.pipeline.output_head import head_of
from monai_tta.pipeline.run_log import RunLog, content


@dataclass(frozen=True)
class Outcome:
    """One image done: where its masks are, its record, or what went wrong; ``before``: a run that was stopped did it."""

    image: Path
    masks: tuple[Path, ...] = ()
    case: Case | None = None
    error: str | None = None
    before: bool = False


def segment(
    bundle: SourceBundle,
    images: Iterable[Path],
    out: Path,
    method: AdaptationMethod,
    *,
    journal: RunLog | None = None,
    **choices: Any,
) -> Generator[Outcome, None, None]:
    """Segment images one by one; a bad one is reported and the rest go on.

    Masks are written beside, then moved into ``out``, so that no half-written mask is ever there. ``choices`` are
    keyword arguments of `AdaptiveInferer`; ``head="auto"`` is read from the bundle's postprocessing where it says.

    Args:
        journal: of these images and ``out``: what it knows to be done is not done again, what is done is noted there.

    Raises:
        NoRoom: when the disk is full or read-only, which no further image could change.
    """
    images = list(images)
    with partial_folder(out) as partial:
        before, after = bundle.transforms(partial)
        if choices.get("head", "auto") == "auto":
            choices["head"] = head_of(after)
        inferer = AdaptiveInferer(method=method, inferer=bundle.inferer, **choices)
        journal = journal or RunLog(out, images, {}, kept=False)
        journal.open()
        taken = {mask for masks in journal.masks.values() for mask in masks}
        for number in sorted(journal.before):
            yield Outcome(images[number], journal.masks[number], journal.cases[number], before=True)
        for number, loading, following in _ahead(before, images, journal.order()):
            journal.begin(number)
            try:
                data = loading.result()
                with torch.no_grad():
                    data["pred"] = inferer(data["image"][None].to(bundle.device), bundle.network)[0]
                _meaningful(data["pred"])
                wait(following)  # undoing a transform while another thread applies it would mix up what is to be undone
                after(data)
                masks, case = publish(partial, out, taken, images), replace(inferer.cases[-1], number=number)
                journal.done(number, case, masks)
                outcome = Outcome(images[number], masks, case)
            except Exception as error:  # whatever is wrong with one image must not end the cohort
                if is_disk_full(error):
                    raise DiskFull(f"no room to write in {out}: {describe_error(error)}") from error
                outcome = Outcome(images[number], error=describe_error(error))
            clear(partial)
            yield outcome


def _meaningful(answer: Any) -> None:
    """Refuse an answer of NaN, of which the postprocessing would make a mask like any other, and an empty one at that.

    Raises:
        ValueError: when a voxel's answer is NaN.
    """
    if isinstance(answer, torch.Tensor) and bool((lost := answer.isnan()).any()):
        share = float(lost.any(0).float().mean())
        raise ValueError(
            f"the network's answer is NaN in {share:.2%} of the image: the image holds NaN, infinity or numbers too large to "
            "normalise; replace them first"
        )


def _ahead(before: Any, images: list[Path], todo: list[int]) -> Iterator[tuple[int, Future[Any], list[Future[Any]]]]:
    """Each image's number, its loading, and the next one's loading, which goes on while this one is answered."""

    def load(number: int) -> Any:
        image = images[number].absolute()  # readers take a leading ~ for somebody's home
        check_input_file(image)
        return before({"image": str(image)})

    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(load, number) for number in todo[:1]]
        try:
            for number, after in zip(todo, [*todo[1:], None], strict=True):
                wait(following)
                loading, following = following[0], [] if after is None else [pool.submit(load, after)]
                yield number, loading, following
        finally:
            for future in following:
                future.cancel()


def settings_of(root: Path, checkpoint: str, method: AdaptationMethod, choices: dict[str, Any]) -> dict[str, Any]:
    """Whatever masks depend on besides their images, for a `RunLog`: hashes of the bundle's files, not their names."""
    configs = [root / "configs" / name for name in ("inference.yaml", "inference.yml", "inference.json", "metadata.json")]
    files = {"bundle": "".join(content(config) for config in configs), "weights": content(root / "models" / checkpoint)}
    predictor = Path(str(getattr(method, "judge", "")))  # whose file may be made anew without a new name
    files["judge"] = content(predictor) if predictor.is_file() else ""
    given = {name: value if isinstance(value, str | int | float | None) else repr(value) for name, value in choices.items()}
    return {"version": __version__, **files, "method": repr(method), **given}


def write_records(cases: Iterable[Case | None], path: Path) -> None:
    """Write records as a JSON list, ``null`` where an image failed, aside first and then in one move."""
    write_atomically(path, json.dumps([case and json.loads(case.to_json()) for case in cases], indent=1) + "\n")


def write_what_is_done(journal: RunLog) -> None:
    """Records of a run that was stopped, as far as they can be written."""
    with suppress(OSError):
        write_records(journal.records(), journal.out / "records.json")
