"""What the layout of the package promises, as far as an import check cannot see it."""

import ast
from configparser import ConfigParser
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "monai_tta"
FILES = sorted(p for folder in PACKAGE.iterdir() if folder.is_dir() and not folder.is_symlink() for p in folder.glob("*.py"))
TREES = {p.relative_to(PACKAGE).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in FILES}
BELOW_THE_INFERER = [
    name for name in TREES if name.split("/")[0] in ("compute", "core", "guards", "quality", "reporting", "methods")
] + [
    name
    for name in TREES
    if name.startswith("inference/")
    and name not in ("inference/inferer.py", "inference/stream_files.py", "inference/self_prompting.py")
]


def test_there_are_files_to_look_at():
    assert len(TREES) > 80 and len(BELOW_THE_INFERER) > 50


@pytest.mark.parametrize("name", TREES)
def test_no_inferer_and_no_episode_of_any_type(name):
    """`Any` in this place would hide that a lower file works on a higher object."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.arg) and node.arg in ("inferer", "episode"):
            assert node.annotation is not None and "Any" != ast.unparse(node.annotation), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", BELOW_THE_INFERER)
def test_nothing_below_the_inferer_names_it(name):
    for node in ast.walk(TREES[name]):
        names = (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None), getattr(node, "arg", None))
        assert "AdaptiveInferer" not in names and "inferer" not in names, f"{name}:{getattr(node, 'lineno', '')}"


@pytest.mark.parametrize("name", TREES)
def test_no_method_is_told_by_its_type(name):
    """What others need to know of a method is a member of the contract."""
    methods = ("Careful", "GraTa", "Tent", "Consistency", "Statistics", "ImageEdit", "ViewAverage", "STAG", "Source")
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            told = {n.id for argument in node.args[1:] for n in ast.walk(argument) if isinstance(n, ast.Name)}
            assert not told & set(methods), f"{name}:{node.lineno} asks for the type of a method"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            asked = ast.unparse(node.args[0])
            assert not asked.endswith("method"), f"{name}:{node.lineno} asks a method for a member outside the contract"


@pytest.mark.parametrize("name", TREES)
def test_a_file_fits_on_a_few_screens(name):
    assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) <= 250


def test_grata_reads_in_the_papers_order_without_ambient_state():
    tree = TREES["methods/grata.py"]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Lambda | ast.Assert)]
    assert len((PACKAGE / "methods/grata.py").read_text(encoding="utf-8").splitlines()) < 60
    context = [n for name in TREES for n in ast.walk(TREES[name]) if getattr(n, "id", None) == "ContextVar"]
    assert not context, "what a step depends on is passed, never ambient"


def test_every_subpackage_is_in_what_is_installed():
    """An editable install hides one that setup.cfg forgets; a wheel would lack it."""
    settings = ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg", "utf-8")
    listed = set(settings["options"]["packages"].split())
    there = {f"monai_tta.{folder.name}" for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert there <= listed


@pytest.mark.parametrize("name", TREES)
def test_text_files_are_written_and_read_as_utf8_whatever_the_locale(name):
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        mode = "".join(str(a.value) for a in node.args if isinstance(a, ast.Constant))
        opens_text = (
            called == "open" and (called == getattr(node.func, "id", None) or "w" in mode or "a" in mode) and "b" not in mode
        )
        if called in ("read_text", "write_text") or opens_text:
            assert "encoding" in {keyword.arg for keyword in node.keywords}, f"{name}:{node.lineno}"
