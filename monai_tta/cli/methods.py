"""`monai-tta methods`: which methods there are."""

from __future__ import annotations

from monai_tta.cli.console import print_json, print_table
from monai_tta.cli.options import AsJson, help_end
from monai_tta.pipeline.method_by_name import method_summaries

HELP_END = help_end("monai-tta methods", codes=(0,))


def methods(as_json: AsJson = False) -> None:
    """List the methods that --method takes, and what each does."""
    summaries = method_summaries()
    if as_json:
        print_json([{"method": name.lower(), "class": name, "summary": summary} for name, summary in summaries.items()])
    else:
        print_table(["method", "what it does"], [(name.lower(), summary) for name, summary in summaries.items()])
