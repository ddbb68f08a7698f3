"""The command line: `monai-tta`, or `python -m monai_tta`.

Commands import torch and MONAI inside their functions, because that takes seconds and neither help nor a typing error needs it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from monai_tta._version import __version__
from monai_tta.cli import (
    calibrate,
    check,
    compare,
    demo_command,
    diff,
    doctor,
    finetune,
    fisher,
    methods,
    night,
    overlay,
    pretrain_added,
    profile,
    reference,
    rehearsal,
    replay,
    report,
    run,
    show,
    stream,
    train_optimizer,
    trust,
)
from monai_tta.cli.options import EVALUATE, INSPECT, PREPARE, PREPARE_TARGET, SEGMENT, help_end

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=help_end("monai-tta run hippocampus_mri SCANS --out MASKS", codes=(0, 2, 3, 130)),
)
app.command("run", rich_help_panel=SEGMENT, help=run.HELP, epilog=run.HELP_END)(run.run_images)
app.command("check", rich_help_panel=SEGMENT, help=check.HELP, epilog=check.HELP_END)(check.check)
app.command("report", rich_help_panel=SEGMENT, help=report.HELP, epilog=report.HELP_END)(report.report)
app.command("replay", rich_help_panel=SEGMENT, help=replay.HELP, epilog=replay.HELP_END)(replay.replay)
app.command("diff", rich_help_panel=SEGMENT, help=diff.HELP, epilog=diff.HELP_END)(diff.diff)
app.command("show", rich_help_panel=SEGMENT, help=show.HELP, epilog=show.HELP_END)(show.show)
app.command("demo", rich_help_panel=SEGMENT, epilog=demo_command.HELP_END)(demo_command.demo)
app.command("calibrate", rich_help_panel=PREPARE, help=calibrate.HELP, epilog=calibrate.HELP_END)(calibrate.calibrate)
app.command("train-optimizer", rich_help_panel=PREPARE, epilog=train_optimizer.HELP_END)(train_optimizer.train_optimizer)
app.command("reference", rich_help_panel=PREPARE, help=reference.HELP, epilog=reference.HELP_END)(reference.reference)
app.command("rehearsal", rich_help_panel=PREPARE, epilog=rehearsal.HELP_END)(rehearsal.rehearsal)
app.command("fisher", rich_help_panel=PREPARE, help=fisher.HELP, epilog=fisher.HELP_END)(fisher.fisher)
app.command("night", rich_help_panel=PREPARE_TARGET, epilog=night.HELP_END)(night.night)
app.command("finetune", rich_help_panel=PREPARE_TARGET, help=finetune.HELP, epilog=finetune.HELP_END)(finetune.finetune)
app.command("pretrain-added", rich_help_panel=PREPARE, help=pretrain_added.HELP, epilog=pretrain_added.HELP_END)(
    pretrain_added.pretrain_added
)
app.command("compare", rich_help_panel=EVALUATE, epilog=compare.HELP_END)(compare.compare)
app.command("tables", rich_help_panel=EVALUATE, epilog=compare.TABLES_HELP_END)(compare.tables)
app.command("stream", rich_help_panel=EVALUATE, epilog=stream.HELP_END)(stream.stream)
app.command("trust", rich_help_panel=EVALUATE, help=trust.HELP, epilog=trust.HELP_END)(trust.trust)
app.command("profile", rich_help_panel=EVALUATE, epilog=profile.HELP_END)(profile.profile)
app.command("doctor", rich_help_panel=INSPECT, epilog=doctor.HELP_END)(doctor.doctor)
app.command("methods", rich_help_panel=INSPECT, epilog=methods.HELP_END)(methods.methods)
app.command("overlay", rich_help_panel=INSPECT, epilog=overlay.HELP_END)(overlay.overlay)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"monai-tta {__version__}")
        raise typer.Exit()


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and end", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Test-time adaptation for medical image segmentation."""


def main() -> None:
    """Entry point of `monai-tta`."""
    app()
