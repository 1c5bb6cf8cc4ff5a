"""Links, anchors and pictures of README.md and docs/ lead somewhere, by GitHub's rules; `make docs` checks the site."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page):
    """The text of a page without its code."""
    return re.sub(r"`[^`\n]*`", "code", FENCED.sub("", page.read_text()))


def links(page):
    """(is a picture, target) of every link of a page."""
    return [(bool(mark), target) for mark, target in LINK.findall(prose(page))]


def anchors(page):
    """What GitHub lets a link to a heading of a page end in."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    wrong = []
    for is_picture, target in links(page):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file() or (is_picture and file.suffix != ".jpg"):
            wrong.append(target)
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: anchors there are {', '.join(anchors(file))}")
    assert not wrong


def test_every_picture_is_shown():
    shown = {Path(target).name for page in PAGES for is_picture, target in links(page) if is_picture}
    assert shown == {picture.name for picture in (ROOT / "docs").glob("*.jpg")}


def test_readme_and_index_link_every_page():
    pages = {page.name for page in PAGES} - {"README.md", "index.md"}
    assert {Path(target).name for _, target in links(README) if target.startswith("docs/")} >= pages
    assert {target for _, target in links(ROOT / "docs/index.md")} >= pages, "the sidebar is made of these links"


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_has_nothing_that_github_shows_as_text(page):
    text = page.read_text()
    assert not re.search(r"^(```\{|:::|\.\. |\(.+\)=$)|\{\w+\}`", text, re.MULTILINE), "a directive of the site"
    assert not re.search(r"^    \S", FENCED.sub("", text), re.MULTILINE), "code is fenced, so that it is tested"
