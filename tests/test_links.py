"""Links between pages lead somewhere: to a file that there is, and to a heading in it."""

import re
from pathlib import Path
from urllib.parse import urldefrag

import pytest

from tests.doc_pages import PAGES, ROOT, text_of

DEEPEST = int(re.search(r"^myst_heading_anchors = (\d)", (ROOT / "docs/conf.py").read_text(encoding="utf-8"), re.M)[1])
LINK = re.compile(r"\]\(([^)\s]+)\)")
INCLUDED = re.compile(r"^```\{include\} (\S+)", re.M)


def links_of(page):
    """The targets of a page's links within the repository; code holds none."""
    text = re.sub(r"`[^`\n]*`", "`code`", text_of(page))
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def headings_of(page):
    """The headings of a page and of what it includes, with their levels, as they read without markup."""
    included = [(Path(page).parent / name).as_posix() for name in INCLUDED.findall(PAGES[page])]
    found = []
    for part in [page, *(_within_root(name) for name in included)]:
        for marks, title in re.findall(r"^(#{1,6}) (.+?) *$", text_of(part), re.M):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
            found.append((len(marks), re.sub(r"[`*]", "", plain)))
    return found


def _within_root(name):
    return (ROOT / name).resolve().relative_to(ROOT.resolve()).as_posix()


def anchors_of(page):
    """What a link to a place in this page may be called, so that it leads there on GitHub and on the built site.

    GitHub takes away a heading's marks, and MyST does, too, down to some level; docutils makes hyphens of them, at any level.
    What a page includes or has Sphinx draw is on the site alone.
    """
    on_github, on_site = [], set()
    for level, title in headings_of(page):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor) is not None for anchor in on_github)
        on_github.append(f"{slug}-{before}" if before else slug)
        on_site.add(re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"))
        if level <= DEEPEST:
            on_site.add(on_github[-1])
    is_built = page.startswith("docs/")
    return on_site if "```{" in PAGES[page] else {anchor for anchor in on_github if anchor in on_site or not is_built}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    for target in links_of(page):
        path, place = urldefrag(target)
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}, and there is no such file"
        inside = file.resolve().is_relative_to(ROOT / "docs")
        assert not page.startswith("docs/") or inside, f"{page} links to {target}, which Sphinx builds no page for"
        if place:
            named = _within_root(file)
            assert place in anchors_of(named), f"{page} links to {target}, and {named} has no such heading"


def test_there_are_links_to_check():
    links = [target for page in PAGES for target in links_of(page)]
    assert len(links) > 300 and sum("#" in target for target in links) > 80


def test_anchors_are_named_as_on_the_site():
    assert {"tested-with", "the-demo"} <= anchors_of("docs/status.md")
    assert "monai_tta" in anchors_of("docs/api.md") and "monai-tta" in anchors_of("docs/api.md")
    assert "optic-disc-and-cup-the-grata-benchmark-s-set-up" in anchors_of("docs/bundles.md")
    assert "tested-without" not in anchors_of("docs/status.md")
