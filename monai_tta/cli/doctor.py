"""`monai-tta doctor`: whether this installation works, and what to do where it does not."""

from __future__ import annotations

from dataclasses import asdict

import typer

from monai_tta.cli.console import print_json, print_table, report_errors, say
from monai_tta.cli.options import AsJson, help_end

HELP_END = help_end("monai-tta doctor", codes=(0, 2))


def doctor(as_json: AsJson = False) -> None:
    """Look whether this installation works: packages, machine, bundles, one adapted answer.

    It reads nothing of yours, sends nothing and writes nothing. Put what it
    prints into a report of an error.
    """
    with report_errors():
        from monai_tta.pipeline.installation import examine

        found = examine()
    problems = [one for one in found if one.problem]
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_table(["what", "found"], [(one.what, one.found) for one in found])
    for one in problems:
        say(f"{one.what}: {one.found}: {one.problem}", "red")
    say(f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "no problem found")
    if problems:
        raise typer.Exit(2)
