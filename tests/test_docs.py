"""What the pages name as proof is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {page: page.read_text() for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}


def named(pattern):
    """(page, match) of everything the pages name in this form."""
    found = (
        (page.name, name) for page, text in PAGES.items() for name in re.findall(pattern, text)
    )
    return sorted(set(found))


def test_every_file_of_tests_that_a_page_names_is_there():
    names = named(r"`(tests/[\w/]+\.\w+)`")
    assert names and [each for each in names if not (ROOT / each[1]).exists()] == []


def test_every_test_that_a_page_names_is_there():
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = named(r"`(test_\w+)`")
    assert names and [each for each in names if f"def {each[1]}(" not in sources] == []
