"""What the command line answers without torch and MONAI, which take seconds to import."""

import os
import subprocess
import sys

import pytest

CHECK = """
import sys
from monai_tta.cli.app import app
try:
    app({words!r}, prog_name="monai-tta")
except SystemExit as end:
    code = end.code or 0
heavy = sorted({{"torch", "monai", "numpy", "scipy", "nibabel", "matplotlib"}} & set(sys.modules))
sys.stderr.write(f"code {{code}} heavy {{heavy}}")
"""


def start(*words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(words=list(words))],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "200"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["--help"], 0, "Prepare at the source"),
        (["-h"], 0, "Prepare at the source"),
        (["run", "--help"], 0, "--restart"),
        (["calibrate", "-h"], 0, "--harm"),
        (["rehearsal", "-h"], 0, "--device"),
        (["fisher", "-h"], 0, "--choose"),
        (["show", "-h"], 0, "--image"),
        (["show", "nowhere", "a", "--image", "i"], 2, "both --image and --out"),
        (["finetune", "-h"], 0, "--half-distance"),
        (["finetune", "hippocampus_mri", "--datalist", "nowhere", "--out", "o"], 2, "nowhere is no file"),
        (["pretrain-added", "-h"], 0, "--rank"),
        (["pretrain-added", "hippocampus_mri", "--dataset-dir", "nowhere", "--out", "o"], 2, "folder of the images"),
        (["train-optimizer", "-h"], 0, "--epochs"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", "nowhere"], 2, "nowhere is no folder"),
        (["train-optimizer", "hippocampus_mri", "--dataset-dir", ".", "--epochs", "0"], 2, "Invalid value for '--epochs'"),
        (["--version"], 0, "monai-tta "),
        (["methods"], 0, "viewaverage"),
        (["methods", "--json"], 0, '"summary"'),
        (["rnu"], 2, "No such command 'rnu'"),
        (["run", "hippocampus_mri", "x", "--out", "o", "--method", "grataa"], 2, "Did you mean 'grata'?"),
        (["run", "hippocampus", "x", "--out", "o"], 2, "Did you mean 'hippocampus_mri'?"),
        (["run", "hippocampus_mri", "x", "--out", "o", "--guard", "volum-change"], 2, "Did you mean 'volume-change'?"),
        (["profile", "hippocampus_mri", "--method", "tnet"], 2, "Did you mean 'tent'?"),
        (["profile", "hippocampus_mri", "--size", "96x96"], 2, "whole numbers between commas"),
        (["calibrate", "hippocampus_mri", "--dataset-dir", "nowhere"], 2, "nowhere is no folder"),
        (["rehearsal", "hippocampus_mri", "--dataset-dir", "nowhere"], 2, "nowhere is no folder"),
    ],
)
def test_help_and_typing_errors_import_neither_torch_nor_monai(words, code, said, tmp_path):
    out, err = start(*words)
    assert said in out + err and "Traceback" not in out + err
    assert err.endswith(f"code {code} heavy []")


def test_shell_completion_names_bundles_methods_and_guards():
    asked = {"_MONAI_TTA_COMPLETE": "complete_bash"}
    for line, said in (
        ("monai-tta run hippo", "hippocampus_mri"),
        ("monai-tta run x y --method vi", "viewaverage"),
        ("monai-tta run x y --guard vol", "volume-change"),
    ):
        out, err = start(COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1), **asked)
        assert said in out and "heavy []" in err, (line, out, err)
