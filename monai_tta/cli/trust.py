"""`monai-tta trust`: how well signals that need no label tell good masks from bad ones, where labels are there to check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_tta.cli.console import print_line, report_errors, say
from monai_tta.cli.options import (
    Checkpoints,
    ConfigEntries,
    ConfigFiles,
    DatasetDir,
    Device,
    EvaluationBundle,
    Limit,
    PrecisionOption,
    check_dataset_dir,
    check_new_folder,
    help_end,
    parse_changes,
)
from monai_tta.cli.progress import show_progress
from monai_tta.pipeline.shipped_bundles import find_bundle
from monai_tta.reporting.rows import has_rows

HELP = """Say how well signals that need no label tell good masks from bad ones.

It answers the labelled cases of the real and simulated domains of a
bundle's compare.yaml, without adaptation and adapted, and measures
signals of each answer: entropy, agreement of views, volume and more.
Then it compares them with the true Dice: risk and coverage, failures
found, ranks, and whether predicted intervals hold.

After Ctrl-C or a kill the same command resumes.
"""
HELP_END = help_end(
    "monai-tta trust hippocampus_mri --dataset-dir DATA --out OUT --limit 15",
    "monai-tta trust BUNDLE --dataset-dir DATA --out OUT --method statistics --accept 0.7",
    codes=(0, 2, 3, 130),
)
Methods = Annotated[
    list[str],
    typer.Option(
        "--method",
        help="how to adapt: careful, statistics, or a row of `monai-tta compare`; may be given several times; careful where "
        "the checkpoint has a gain predictor, else statistics, if not given",
    ),
]


def trust(
    bundle: EvaluationBundle,
    dataset_dir: DatasetDir,
    out: Annotated[Path, typer.Option(help="the folder for trust.html, tables and plots; the same one resumes")],
    method: Methods = [],  # noqa: B006
    accept: Annotated[float, typer.Option(help="an answer with less mean Dice has failed")] = 0.8,
    limit: Limit = 0,
    domain: Annotated[list[str], typer.Option(help="a domain's label; may be given several times")] = [],  # noqa: B006
    severity: Annotated[list[int], typer.Option(help="of simulated scanners, 1 to 5; may be given several times")] = [],  # noqa: B006
    budget: Annotated[int, typer.Option(min=0, help="on how many windows of a volume a method adapts, 0 for all")] = 4,
    checkpoint: Checkpoints = [],  # noqa: B006
    precision: PrecisionOption = "exact",
    set_: ConfigEntries = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    device: Device = None,
    workers: Annotated[int, typer.Option(help="processes; 0 for one per core", min=0)] = 0,
) -> None:
    """Answer, measure, and write the report."""
    choices: dict[str, Any] = {
        "domains": tuple(domain),
        "severities": tuple(severity),
        "budgets": (budget,),
        "limit": limit or None,
        "precision": precision,
        "device": device,
    }
    failures: list[str] = []
    with report_errors():
        root = find_bundle(bundle, nnunet=True)
        check_dataset_dir(dataset_dir)
        check_new_folder(out)
        if not 0 < accept <= 1:
            raise ValueError(f"--accept is a Dice above 0, at most 1, found {accept:g}")
        choices["changes"] = parse_changes(config, set_)

        from monai_tta.evaluation.compare import compare
        from monai_tta.evaluation.protocol import protocol_of
        from monai_tta.evaluation.trust_plan import TrustPlan, chosen_methods
        from monai_tta.pipeline.checkpoint import checkpoint_name
        from monai_tta.pipeline.source_files import weights_file

        protocol_of(root)  # tells that there is none, before anything else is looked for
        names = tuple(checkpoint) or (checkpoint_name(root, None, choices["changes"], ("evaluate",)),)
        choices |= {"checkpoints": names, "only": chosen_methods(method, weights_file(root, names[0]))}
        plan = TrustPlan(root=root, dataset_dir=dataset_dir, **choices)
        with show_progress("measuring") as progress:
            for done, total, failed in compare(plan, out, workers or None):
                progress.move_to(done, total or None, f"jobs done{', with a failure' if failed else ''}")
                failures += failed
    _finish(out, accept, failures)


def _finish(out: Path, accept: float, failures: list[str]) -> None:
    """Write the report of what there is; end with 3 where something failed."""
    for failure in dict.fromkeys(failures):
        say(f"failed: {failure}", "red")
    if failures and not has_rows(out / "rows.sqlite"):
        say("no report: nothing could be measured; mend what failed and give the same command again")
        raise typer.Exit(3)
    with report_errors():
        from monai_tta.evaluation.trust import write_trust

        written = write_trust(out, accept)
    if not any(file.suffix == ".png" for file in written):
        say("no plots: they need matplotlib, pip install 'monai-tta[report]'")
    print_line(f"{', '.join(file.name for file in written if file.parent == out)} in {out}")
    if failures:
        raise typer.Exit(3)
