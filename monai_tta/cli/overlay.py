"""`monai-tta overlay`: what adapting a bundle would mean, and the config file that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_tta.cli.console import print_json, print_line, print_table, report_errors
from monai_tta.cli.options import AsJson, Bundle, ConfigEntries, ConfigFiles, check_new_file, help_end, parse_changes
from monai_tta.pipeline.shipped_bundles import find_bundle

HELP_END = help_end("monai-tta overlay BUNDLE --out adapt.yaml")


def overlay(
    bundle: Bundle,
    out: Annotated[Path | None, typer.Option(help="the file to write; adapt_BUNDLE.yaml in this folder if not given")] = None,
    head: Annotated[str | None, typer.Option(help="softmax or sigmoid, where the bundle does not say")] = None,
    set_: ConfigEntries = [],  # noqa: B006
    config: ConfigFiles = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say what adapting a bundle would mean, and write the config file that does it.

    The file is laid over the bundle's own inference config. Nothing in the
    bundle changes.
    """
    with report_errors():
        root = find_bundle(bundle)
        file = out or Path(f"adapt_{root.resolve().name}.yaml")
        check_new_file(file)
        changes = parse_changes(config, set_)

        from monai_tta.pipeline.overlay import look
        from monai_tta.pipeline.overlay import overlay as overlay_text

        findings = look(root, head, changes)
        if not as_json:
            print_table(["of", "found"], findings.lines())
        text = overlay_text(findings)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"findings": [{"of": name, "found": value} for name, value in findings.lines()], "written": str(file)})
    else:
        print_line(f"written: {file}")
