"""The pages of the documentation, and what tests read of them: fenced code, and the text around it."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
    for file in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("bundles/*/docs/README.md"))]
}
_FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.S | re.M)
_SHELLS = ("bash", "sh", "console", "shell", "shell-session")


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    page: str
    language: str
    code: str


def fences(*languages):
    """The blocks in one of these languages, page by page, each in the order of its page."""
    found = [(page, info.strip(), code) for page, text in PAGES.items() for info, code in _FENCE.findall(text)]
    return [Fence(page, language, textwrap.dedent(code)) for page, language, code in found if language in languages]


def python_fences():
    """All Python, by page."""
    found = {}
    for fence in fences("python", "py", "python3", "pycon"):
        found.setdefault(fence.page, []).append(fence.code)
    return found


def shell_fences():
    """All blocks for a shell."""
    return fences(*_SHELLS)


def text_of(page):
    """A page without its fenced blocks."""
    return _FENCE.sub("", PAGES[page])


def code_words(page):
    """What stands in single backticks in a page's text, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text_of(page))]
