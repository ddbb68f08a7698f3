"""The rows of streams, kept contender by contender: the same command goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_tta.evaluation.contenders import Contender
from monai_tta.evaluation.labelled_data import LabelledDomain
from monai_tta.evaluation.plan import ComparisonPlan
from monai_tta.evaluation.streams import StreamPlan, stream_domains
from monai_tta.pipeline.folder_locks import hold
from monai_tta.pipeline.output_folder import write_atomically
from monai_tta.reporting.stream_rows import StreamRow

ROWS = "rows.jsonl"
SETTINGS = "settings.json"
LOCK = ".monai_tta_stream.lock"


def stream_settings(
    root: Path,
    dataset_dir: Path,
    plan: StreamPlan,
    contenders: Sequence[Contender],
    checkpoint: str,
    device: str | None,
    **choices: Any,
) -> dict[str, Any]:
    """What the rows of one folder must have in common, as JSON can hold it.

    Args:
        root: the folder of the bundle.
        dataset_dir: the labelled data.
        plan: which streams.
        contenders: who goes through them.
        checkpoint: a file in the bundle's ``models`` folder.
        device: where networks compute; None for where the bundle puts its network.
        choices: keyword arguments of `AdaptiveInferer`.

    Raises:
        BundleError: for domains that cannot be listed.
    """
    how: dict[str, Any] = {"checkpoints": (checkpoint,), "only": ("Source",), "metrics": ("dice",), "device": device}
    alike = ComparisonPlan(root=root, dataset_dir=dataset_dir, **how)  # of Source alone: what others lack is no concern here
    loaded = {domain.label: LabelledDomain(root, dataset_dir, domain) for domain in stream_domains(root, plan)}
    settings = alike.settings() | {
        "streams": asdict(plan),
        "choices": choices,
        "domains": {label: [len(cases), cases.digest] for label, cases in loaded.items()},
        "contenders": {one.label: f"{one.method!r} {one.choices}" for one in contenders},
    }
    return dict(json.loads(json.dumps(settings)))


@contextmanager
def opened(out: Path, settings: dict[str, Any]) -> Iterator[KeptStreams]:
    """The rows of a folder, for this process alone: another one would replace what this one adds.

    Args:
        out: the folder.
        settings: see `stream_settings`.

    Raises:
        BlockingIOError: while another process has it.
        ValueError: as `KeptStreams`.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(hold(out / LOCK, wait=False))
        except BlockingIOError as error:
            raise BlockingIOError(f"another `monai-tta stream` writes into {out}: wait for it, or give another --out") from error
        yield KeptStreams(out, settings)


class KeptStreams:
    """A folder with the rows of those contenders that are done.

    Args:
        out: the folder.
        settings: see `stream_settings`. Contenders may be added to those that are there.

    Raises:
        ValueError: for a folder whose rows are of other settings, or cannot be read.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out = out
        self.rows: list[StreamRow] = []
        file = out / ROWS
        if file.exists():
            before = self._settings_before()
            for name in settings | before:
                self._check_same(name, before.get(name), settings.get(name))
            self.rows = [StreamRow.from_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
            settings = settings | {"contenders": before["contenders"] | settings["contenders"]}
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / SETTINGS, json.dumps(settings, indent=1))

    @property
    def done(self) -> set[str]:
        """The labels of the contenders that are done."""
        return {row.contender for row in self.rows}

    def add(self, rows: Sequence[StreamRow]) -> None:
        """Keep all rows of a contender, in one move.

        Args:
            rows: of one contender.

        Raises:
            OSError: when they cannot be written.
        """
        self.rows += rows
        write_atomically(self.out / ROWS, "".join(f"{row.to_json()}\n" for row in self.rows))

    def _settings_before(self) -> dict[str, Any]:
        try:
            said = json.loads((self.out / SETTINGS).read_text(encoding="utf-8"))
            return {**said, "contenders": {**said["contenders"]}}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.out} has {ROWS}, and no {SETTINGS} that says of what they are: {error}; choose another --out"
            ) from error

    def _check_same(self, name: str, old: Any, new: Any) -> None:
        if name == "contenders":
            changed = [label for label in old.keys() & new.keys() if old[label] != new[label]]
            old, new = (changed or None), None
        if old != new:
            raise ValueError(f"{self.out} has rows of other settings: {name} differ; use the old ones, or choose another --out")
