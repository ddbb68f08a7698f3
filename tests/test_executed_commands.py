"""The commands of the pages are executed in a scratch folder, page by page in their order, and end as the page says.

A new command must work there, or stand in `NOT_EXECUTED` with the reason.
"""

import re
import shlex

import pytest
from typer.testing import CliRunner

from monai_tta.cli.app import app
from tests import page_scenes as scenes
from tests.doc_pages import ROOT, shell_fences
from tests.test_shown_commands import split_commands

# Page: what prepares its folder.
QUICK = {
    "README.md": scenes.demo_scans,
    "docs/guards.md": scenes.guarded,
    "docs/input-checks.md": scenes.checked,
    "docs/inputs.md": scenes.sequences,
    "docs/outputs.md": scenes.formats,
    "docs/pipelines.md": scenes.small,
    "docs/rehearsal.md": scenes.shipped,
    "docs/report.md": scenes.small,
}
SLOW = {
    "docs/added-parameters.md": scenes.with_images,
    "docs/careful.md": scenes.shipped,
    "docs/day-and-night.md": scenes.with_diary,
    "docs/index.md": scenes.demo_scans,
    "docs/many-studies.md": scenes.small,
    "docs/mgg.md": scenes.shipped,
    "docs/quality.md": scenes.shipped,
    "docs/uncertainty.md": scenes.photographs,
}
# Pages whose commands another test executes.
ELSEWHERE = {
    "docs/first-commands.md": "tests/cli/test_first_commands.py",
    "docs/own-network.md": "tests/preparation/test_own_network_page.py",
    "docs/preview.md": "tests/cli/test_preview.py",
    "docs/replay.md": "tests/test_docs.py",
}
DATA = "it measures on labelled data of several domains, for minutes to hours"
MINUTES = "it takes minutes on the smallest data that it accepts"
# Page and how a command begins: why it is not executed here.
NOT_EXECUTED = {
    ("docs/benchmarks.md", "monai-tta"): DATA,
    ("docs/careful.md", "monai-tta calibrate"): MINUTES,
    ("docs/careful.md", "monai-tta compare"): DATA,
    ("docs/careful.md", "monai-tta run hippocampus_mri scans"): "its predictor is that of a calibration, which takes minutes",
    ("docs/compare.md", "monai-tta"): DATA,
    ("docs/index.md", "monai-tta demo"): "tests/cli/test_demo.py executes it",
    ("docs/input-checks.md", "monai-tta reference BUNDLE --dataset-dir"): "a small network has no labelled data of its own",
    ("docs/guards.md", "monai-tta reference BUNDLE --dataset-dir"): "a small network has no labelled data of its own",
    ("docs/many-studies.md", "monai-tta run hippocampus_mri SCANS --out MASKS --workers 8 --shard"): "Slurm gives its numbers",
    ("docs/maco.md", "monai-tta"): "it needs scribbles; tests/preparation/test_finetune_scribbles.py executes it with some",
    ("docs/mgg.md", "monai-tta train-optimizer"): MINUTES,
    ("docs/nnunet.md", "monai-tta"): "it needs nnunetv2; tests/pipeline/test_nnunet_commands.py executes such ones where that is",
    (
        "docs/performance.md",
        "monai-tta profile",
    ): "it takes minutes; tests/evaluation/test_costs.py times a small image",
    ("docs/quality.md", "monai-tta calibrate"): MINUTES,
    ("docs/quality.md", "monai-tta trust"): DATA,
    ("docs/rehearsal.md", "monai-tta stream"): DATA,
    ("docs/streams.md", "monai-tta"): DATA,
    ("docs/trust.md", "monai-tta"): DATA,
    ("bundles/headneck_ct/docs/README.md", "monai-tta"): "it needs the data that the page says how to get",
    ("bundles/hippocampus_mri/docs/README.md", "monai-tta"): DATA,
}
# Codes other than 0 that a page says in words; `|| test $? -eq 1` says it, too.
CODES = {("docs/input-checks.md", "monai-tta check"): 4}


def commands_of(page):
    """The page's commands of `monai-tta`, in their order, with the code that each may end with."""
    found = []
    for fence in shell_fences():
        for line in fence.code.replace("\\\n", " ").splitlines() if fence.page == page else ():
            for words in split_commands(line):
                if words[0] == "monai-tta":
                    (code,) = re.findall(r"\|\| test \$\? -eq (\d+)", line) or [matching(CODES, page, words) or 0]
                    found.append((words, int(code)))
    return found


def matching(table, page, words):
    """What a table of pages and beginnings says of a command."""
    text = " ".join(words)
    return next((said for (own, start), said in table.items() if own == page and text.startswith(start)), None)


SHOWN = {fence.page: commands_of(fence.page) for fence in shell_fences()}


@pytest.mark.parametrize("page", [*QUICK, *(pytest.param(page, marks=pytest.mark.slow) for page in SLOW)])
def test_the_commands_of_a_page_end_as_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (QUICK | SLOW)[page]()
    executed = 0
    for words, code in SHOWN[page]:
        if matching(NOT_EXECUTED, page, words) is None:
            result = CliRunner().invoke(app, words[1:])
            executed += 1
            assert result.exit_code == code, (shlex.join(words), result.output[-2000:], result.exception)
    assert executed


def test_each_command_is_executed_or_says_why_not():
    for page, commands in SHOWN.items():
        left = [words for words, _ in commands if matching(NOT_EXECUTED, page, words) is None]
        places = [page in table for table in (QUICK, SLOW, ELSEWHERE)]
        assert sum(places) == bool(left), (page, left)


def test_what_the_tables_name_is_there():
    for page, start in [*NOT_EXECUTED, *CODES]:
        assert any(" ".join(words).startswith(start) for words, _ in SHOWN[page]), (page, start)
    for page, file in ELSEWHERE.items():
        assert page.rsplit("/", 1)[-1] in (ROOT / file).read_text(encoding="utf-8"), (page, file)
