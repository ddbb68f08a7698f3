"""Every command that a page shows is one that there is, with options that it has, and values that it takes."""

import argparse
import re
import runpy
import shlex
import sys
from configparser import ConfigParser
from importlib.util import find_spec

import pytest
import typer

from monai_tta.cli.app import app
from monai_tta.cli.guard_option import check_guard_names
from monai_tta.evaluation.contenders import chosen_contenders, stream_contenders
from monai_tta.evaluation.protocol import chosen_domains, protocol_of
from monai_tta.pipeline.mask_formats import ENDINGS_OF_FORMATS
from monai_tta.pipeline.method_by_name import named_method
from monai_tta.pipeline.shipped_bundles import BUNDLES, find_bundle
from tests.doc_pages import PAGES, ROOT, code_words, shell_fences

COMMANDS = typer.main.get_command(app)
USAGE_ERROR = typer.BadParameter.__base__  # of click, or of typer's own copy of it
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]+")  # BUNDLE, MASKS: what the reader gives
OWN_MODULES = ("docs.", "tests.", "monai_tta.bundles.")
# What a page may show besides commands of this repository. Nothing of these is checked but pip's extras.
OTHERS = {"pip", "mkdir", "echo", "monailabel", "srun", "test", "source"}


def split_commands(line):
    """The commands of a line, without comments, `export`, and what is joined by operators; $NAME as NAME."""
    words = shlex.split(re.sub(r"(^|\s)#.*", "", line))
    commands = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";"):
            commands.append([])
        else:
            commands[-1].append(re.sub(r"\$(\w+)", r"\1", word))
    return [command for command in commands if command and command[0] != "export"]


def shown_commands():
    """Page and words of each command in a block for a shell."""
    return [
        (fence.page, command)
        for fence in shell_fences()
        for line in fence.code.replace("\\\n", " ").splitlines()
        for command in split_commands(line)
    ]


SHOWN = shown_commands()


def label(value):
    return value if isinstance(value, str) else " ".join(value)[:60]


def module_and_rest(command):
    """The module that `python -m` or torchrun starts, and the words behind it; no module for other commands."""
    if command[0] in ("python", "torchrun", "srun") and "-m" in command:
        at = command.index("-m")
        return command[at + 1], command[at + 2 :]
    return ("monai_tta", command[1:]) if command[0] == "monai-tta" else ("", command[1:])


def folder_of_bundle(page, bundle):
    """The folder of a bundle that a page names; that of the hippocampus bundle where the reader is to give one."""
    text = str(bundle)
    if text == "." and page.startswith("bundles/"):
        return ROOT / page.split("/docs/")[0]
    if text.startswith("bundles/"):
        return ROOT / text
    if PLACEHOLDER.fullmatch(text) or text == "my_bundle":
        return BUNDLES / "hippocampus_mri"
    return find_bundle(text)


def check_values(page, name, given):
    """What the commands check of their options after the command line was read."""
    if name == "trust":
        for method in given["method"]:
            named_method(method)
    if name == "run":
        if given["method"]:
            named_method(given["method"], given["choose"])
        check_guard_names(given["guard"])
        assert given["format_"] in (None, *ENDINGS_OF_FORMATS)
    if given.get("bundle"):
        folder = folder_of_bundle(page, given["bundle"])
        assert (folder / "configs").is_dir(), folder
        if name in ("compare", "stream"):
            protocol = protocol_of(folder)
            choose = chosen_contenders if name == "compare" else stream_contenders
            choose(protocol, given["only"])
            chosen_domains(protocol, given["domain"])


def check_own_command(page, words):
    """One of `monai-tta`: parsed by the program's own parser, which looks up commands, options, choices and numbers."""
    with COMMANDS.make_context("monai-tta", list(words)) as context:
        name, command, rest = COMMANDS.resolve_command(context, list(words))
        with command.make_context(name, rest, parent=context) as parsed:
            check_values(page, name, parsed.params)


class ParsedError(Exception):
    """Stops a module once it has read its command line."""


def check_module(module, words, monkeypatch):
    """A module of this repository reads these words, as far as its parser; one without a parser has no options."""
    spec = find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if spec.submodule_search_locations:
        spec = find_spec(f"{module}.__main__")
    source = ROOT.joinpath(spec.origin).read_text(encoding="utf-8")
    if not re.search(r"argparse|parse_command_line", source):
        assert not [word for word in words if word.startswith("--")]
        return

    def parse_and_stop(parser, *given):
        read(parser, *given)
        raise ParsedError

    read = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [module, *(re.sub(PLACEHOLDER, "8", word) for word in words)])
    with pytest.raises(ParsedError):
        runpy.run_module(module, run_name="__main__")


def make_targets():
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def extras():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(config["options.extras_require"])


@pytest.mark.parametrize("page, command", SHOWN, ids=label)
def test_a_command_of_a_page_can_be_given(page, command, tmp_path, monkeypatch):
    module, words = module_and_rest(command)
    monkeypatch.chdir(tmp_path)
    if module == "monai_tta":
        check_own_command(page, words)
    elif module.startswith(OWN_MODULES):
        check_module(module, words, monkeypatch)
    elif command[0] == "make":
        assert set(words) <= make_targets()
    elif command[0] == "python" and not module:
        folder = (ROOT / page).parent.parent
        assert words[0] == "-c" or (folder / words[0]).is_file()
    elif module:
        assert find_spec(module.split(".")[0]), f"{module} is no module of what is installed"
    else:
        assert command[0] in OTHERS, f"{command[0]} is no command that this test knows"
        named = re.findall(r"\[([\w,]+)\]", " ".join(words)) if command[0] == "pip" else []
        assert {extra for text in named for extra in text.split(",")} <= extras()


def test_there_are_commands_to_check():
    assert len({page for page, _ in SHOWN}) > 30 and len(SHOWN) > 100


WRONG = {
    "an unknown command": "segment BUNDLE SCANS --out MASKS",
    "an unknown option": "run BUNDLE SCANS --out MASKS --fold 0",
    "no image": "run BUNDLE --out MASKS",
    "a word for a number": "run BUNDLE SCANS --out MASKS --workers all",
    "an unknown method": "run BUNDLE SCANS --out MASKS --method grater",
    "an unknown choice": "run BUNDLE SCANS --out MASKS --method tent --choose stride=2",
    "an unknown guard": "run BUNDLE SCANS --out MASKS --guard colour",
    "an unknown format": "run BUNDLE SCANS --out MASKS --format tiff",
    "an unknown bundle": "run hypocampus SCANS --out MASKS",
    "an unknown row": "compare hippocampus_mri --dataset-dir DATA --out OUT --only Tint",
    "an unknown domain": "stream hippocampus_mri --dataset-dir DATA --out OUT --domain moon",
}


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG)
def test_a_wrong_command_would_be_noticed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DATA").mkdir()
    with pytest.raises((USAGE_ERROR, ValueError, AssertionError)):
        check_own_command("docs/inputs.md", command.split())


def test_a_wrong_option_of_a_module_would_be_noticed(monkeypatch):
    with pytest.raises(SystemExit):
        check_module("docs.margin", ["TRIALS", "--draw-all"], monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_a_page_mentions_have_these_options(page):
    """In the text, most are shortened, as in `monai-tta run --preview`; each part must be there."""
    for code in code_words(page):
        first, *words = code.split()
        if first == "monai-tta" and words:
            command = COMMANDS if words[0].startswith("--") else COMMANDS.commands[words[0]]
            known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
            assert {word for word in words if word.startswith("--")} <= known, code
        elif first == "make":
            assert set(words) <= make_targets(), code
        elif code.startswith("python -m ") and words[1].startswith(OWN_MODULES):
            assert find_spec(words[1]), code
