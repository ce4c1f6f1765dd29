"""Links, anchors, paths and names of tests in the pages lead somewhere."""

import re

import pytest

from shipway.tasks import TASKS
from tests.docs.pages import NAMES, PAGES, REPOSITORY, Page, commands_in, slug

PATH = re.compile(
    r"(?:shipway|tests|docs|export|handlers|deploy|benchmarks|scripts|requirements)/[\w./-]+"
)
HISTORY = ("CHANGELOG.md",)
"""Pages that also name what is no longer there."""
pages = pytest.mark.parametrize("page", [Page(path) for path in PAGES], ids=NAMES)


@pages
def test_every_relative_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    broken = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            broken.append(link)
    assert broken == []


@pages
def test_every_file_and_test_that_a_page_names_exists(page):
    if page.path.name in HISTORY:
        pytest.skip("a page of history names files that are gone")
    missing = []
    for code in page.code_spans():
        path, _, test = code.partition("::")
        if not PATH.fullmatch(path) or re.search(r"[A-Z]{3}", path):
            continue
        file = REPOSITORY / path
        function = test.partition("[")[0]
        if not file.exists() or (function and f"def {function}(" not in file.read_text()):
            missing.append(code)
    assert missing == []


def test_the_index_links_every_page_of_the_folder():
    index = REPOSITORY / "docs" / "index.md"
    linked = {link.partition("#")[0] for link in Page(index).links()}
    missing = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - linked - {"index.md"}
    assert missing == set()


def test_every_task_is_described():
    recipes, requests = (
        (REPOSITORY / "docs" / f"{page}.md").read_text() for page in ("recipes", "requests")
    )
    for name in TASKS.names():
        assert f"`{name}`" in recipes
        assert f"\n| {name.replace('_', ' ')}" in requests
        assert (REPOSITORY / "handlers" / f"{name}.py").is_file()


def test_the_readme_has_at_most_150_lines():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_pictures_are_small():
    for picture in (REPOSITORY / "docs" / "images").iterdir():
        assert picture.stat().st_size < 300_000, picture


def test_a_heading_becomes_the_fragment_that_github_makes():
    assert slug("Closed and open loop") == "closed-and-open-loop"
    assert slug('Why the cat is not called "tabby"') == "why-the-cat-is-not-called-tabby"


def test_commands_are_told_from_what_they_print():
    block = "$ one \\\n    --two\nprinted\n$ three |\n  four\n$ cat <<END\n$ no command\nEND\n"
    first, second, third = commands_in(block)
    assert (first.text, first.prints) == ("one \\\n    --two", ("printed",))
    assert (second.text, second.prints) == ("three |\n  four", ())
    assert third.text == "cat <<END\n$ no command\nEND"
