"""Programs that people use adapt as docs/programs.md says: its code is run here, and its table names tests of each program."""

import ast
import re
from configparser import ConfigParser as IniFile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from monai.inferers import SlidingWindowInfererAdapt

from monai_tta import AdaptiveInferer, GraTa
from tests.small import image, network

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
BLOCKS = re.findall(r"^```python\n((?!# in ).*?)^```", PAGE, re.S | re.M)  # a part of a program's own file is tested elsewhere
# Each row's program, package, and test: the file, the function, and of a test that runs a block of the page, the block's program.
ROWS = re.findall(r"^\| (.+?)\(`([\w.]+)`\) \|.*\| `(tests/[\w/]+\.py)::(\w+)(?:\[(\w+)\])?` \|$", PAGE, re.M)


def program_of(block):
    """The package that a block needs; empty for one that needs none."""
    named = re.match(r"# program: (\w+)\n", block)
    return named[1] if named else ""


@pytest.mark.parametrize("block", BLOCKS[1:], ids=[program_of(block) or "none" for block in BLOCKS[1:]])
def test_code_of_the_page_adapts(block, tmp_path, monkeypatch):
    if (program := program_of(block)) and find_spec(program) is None:
        pytest.skip(f"{program} is not installed; `make programs` has it")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = {"__name__": "page"}
        for code in (BLOCKS[0], block):
            exec(compile(code, "docs/programs.md", "exec"), names)
    (case,) = names["inferer"].cases
    assert case.adapted and case.weight_distance + case.n_windows > 0


def test_monais_other_inferers_adapt_inside_ours():
    x, net = image(size=12), network()
    inner = SlidingWindowInfererAdapt(roi_size=(8, 8, 8), sw_batch_size=2, overlap=0.5)
    wrapped, own = (
        AdaptiveInferer(inferer=inner, method=GraTa(), head="softmax"),
        AdaptiveInferer(8, 2, 0.5, method=GraTa(), head="softmax"),
    )
    torch.testing.assert_close(wrapped(x, net), own(x, net))
    assert wrapped.cases[-1].adapted


def test_each_line_of_the_table_is_read():
    assert len(ROWS) == len(re.findall(r"^\| ", PAGE, re.M)) - 1 >= 15  # one is the head


@pytest.mark.parametrize(("package", "file", "name", "block"), [row[1:] for row in ROWS], ids=[row[3] + row[4] for row in ROWS])
def test_each_row_names_a_test_that_uses_its_program(package, file, name, block):
    text = (ROOT / file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if block:
        (text,) = [text for text in BLOCKS if program_of(text) == block]
    else:
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        calls = [node for node in ast.walk(tree) if ast.unparse(node).startswith("pytest.importorskip(")]
        text = "\n".join(ast.unparse(node) for node in [*imports, *calls, function])
    assert re.search(rf"\b{re.escape(package)}\b", text), f"{file}::{name} does not use {package}"


@pytest.mark.parametrize(("program", "package"), [row[:2] for row in ROWS if re.search(r" \d", row[0])])
def test_the_versions_of_the_table_are_those_tried(program, package):
    number = re.search(r" (\d[\d.]*)", program)[1]
    try:
        found = version({"monai.deploy": "monai-deploy-app-sdk"}.get(package, package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed; `make programs` has it")
    assert f"{found}.".startswith(f"{number}."), f"the page says {number}, and {found} is installed: try it, then change the page"


def test_make_programs_installs_what_the_page_says():
    (sentence,) = re.findall(r"^`make programs` sets up (.*?) and runs", PAGE, re.S | re.M)
    named = set(re.findall(r"`([\w-]+)`", sentence))
    commands = re.findall(r"^\t\.venv-\w+/bin/python -m pip install (.*)", MAKEFILE, re.M)
    settings = IniFile()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    installed = set()
    for command in commands:
        for extra in re.findall(r"\w+", "".join(re.findall(r"\.\[(.*?)\]", command))):
            installed |= set(re.findall(r"^[\w-]+", settings["options.extras_require"][extra], re.M))
        installed |= set(re.findall(r"(?<= )[\w-]+", command))
    needed = {program_of(block).replace("_", "-") for block in BLOCKS} - {""}
    assert needed <= named <= installed and len(named) >= 8
