"""`monai-tta compare`: methods over a bundle's real and simulated domains; `monai-tta tables`: draw its results again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from monai_tta.reporting.rows import METRICS, has_rows

if TYPE_CHECKING:
    from monai_tta.evaluation.plan import ComparisonPlan

HELP_END = help_end("monai-tta compare BUNDLE --dataset-dir DATA --out OUT --only GraTa", codes=(0, 2, 3, 130))
TABLES_HELP_END = help_end("monai-tta tables OUT --csv")


def compare(
    bundle: EvaluationBundle,
    dataset_dir: DatasetDir,
    out: Annotated[Path, typer.Option(help="the folder for rows.sqlite, tables and plots; the same one resumes")],
    checkpoint: Checkpoints = [],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="a row of the table, besides Source; may be given several times")] = [],  # noqa: B006
    domain: Annotated[list[str], typer.Option(help="a domain's label; may be given several times")] = [],  # noqa: B006
    severity: Annotated[list[int], typer.Option(help="of simulated scanners, 1 to 5; may be given several times")] = [],  # noqa: B006
    budget: Annotated[
        list[int], typer.Option(help="on how many windows of a volume a method adapts, 0 for all; given several times: a curve")
    ] = [4],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="may be given several times")] = [0],  # noqa: B006
    ablations: Annotated[bool, typer.Option("--ablations", help="add GraTa without its parts, see docs/compare.md")] = False,
    choose_rates: Annotated[
        bool, typer.Option("--choose-rates", help="add each method at its best learning rate on simulated scanners")
    ] = False,
    metrics: Annotated[str, typer.Option(help="which to compute; dice alone is fast")] = ",".join(METRICS),
    precision: PrecisionOption = "exact",
    set_: ConfigEntries = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    device: Device = None,
    limit: Limit = 0,
    pictures: Annotated[bool, typer.Option("--pictures", help="draw example cases; they hold pixels of the images")] = False,
    workers: Annotated[int, typer.Option(help="processes; 0 for one per core", min=0)] = 0,
) -> None:
    """Score GraTa, its parts and its controls on the real and simulated domains of a bundle's compare.yaml.

    After Ctrl-C or a kill the same command resumes.
    """
    choices: dict[str, Any] = {
        "only": tuple(only),
        "domains": tuple(domain),
        "severities": tuple(severity),
        "budgets": tuple(budget),
        "seeds": tuple(seed),
        "ablations": ablations,
        "metrics": tuple(name.strip().lower() for name in metrics.split(",")),
        "precision": precision,
        "pictures": pictures,
        "limit": limit or None,
        "device": device,
    }
    with report_errors():
        root = find_bundle(bundle, nnunet=True)
        check_dataset_dir(dataset_dir)
        check_new_folder(out)
        choices["changes"] = parse_changes(config, set_)

        from monai_tta.evaluation.plan import ComparisonPlan
        from monai_tta.evaluation.protocol import protocol_of
        from monai_tta.pipeline.checkpoint import checkpoint_name

        protocol_of(root)  # tells that there is none, before anything else is looked for
        choices["checkpoints"] = tuple(checkpoint) or (checkpoint_name(root, None, choices["changes"], ("evaluate",)),)
        plan = ComparisonPlan(root=root, dataset_dir=dataset_dir, **choices)
        failures = _run(plan, out, workers or None, choose_rates)
    _finish(out, failures)


def _run(plan: ComparisonPlan, out: Path, workers: int | None, choose: bool) -> list[str]:
    """Run a comparison, after a choice of learning rates where that is asked for; a line for each failure."""
    from monai_tta.evaluation.choose_rates import rate_trial, trial_folder, with_best_rates

    failures: list[str] = []
    if choose:
        failures += _compare(rate_trial(plan), trial_folder(out), workers, "choosing learning rates")
        plan = with_best_rates(plan, out)
    return failures + _compare(plan, out, workers, "comparing")


def _compare(plan: ComparisonPlan, out: Path, workers: int | None, what: str) -> list[str]:
    """Do what is left of a plan and show how far it is; a line for each failure."""
    from monai_tta.evaluation.compare import compare as run_comparison

    failures: list[str] = []
    with show_progress(what) as progress:
        for done, total, failed in run_comparison(plan, out, workers):
            progress.move_to(done, total or None, f"jobs done{', with a failure' if failed else ''}")
            failures += failed
    return failures


def _finish(out: Path, failures: list[str]) -> None:
    """Draw the tables of what there is; end with 3 where something failed."""
    for failure in dict.fromkeys(failures):
        say(f"failed: {failure}", "red")
    if failures and not has_rows(out / "rows.sqlite"):
        say("no table: nothing could be compared; mend what failed and give the same command again")
        raise typer.Exit(3)
    tables(out)
    if failures:
        raise typer.Exit(3)


def tables(
    folder: Annotated[Path, typer.Argument(help="the --out folder of monai-tta compare")],
    csv: Annotated[bool, typer.Option("--csv", help="write the raw rows as rows.csv, too")] = False,
) -> None:
    """Draw the tables and plots of a comparison again, from its rows alone."""
    with report_errors():
        from monai_tta.reporting.render import render_comparison

        written = render_comparison(folder, csv)
    if not find_spec("matplotlib"):
        say("no plots: they need matplotlib, pip install 'monai-tta[report]'")
    print_line(f"{', '.join(file.name for file in written if file.parent == folder)} in {folder}")
