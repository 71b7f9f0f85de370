"""What the pages name as proof is there."""

import json
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


def test_the_figures_of_the_simulation_are_those_on_record():
    page = PAGES[ROOT / "docs" / "operations.md"]
    record = json.loads((ROOT / "benchmarks" / "results" / "simulation.json").read_text())
    num_faults, lives = sum(record["faults"].values()), record["lives"]
    assert f"{record['schedules']:,} schedules, {num_faults:,} faults, {lives:,} lives" in page
    for name, schedules in record["found_after_schedules"].items():
        assert f"| {name} | {schedules:,} |" in page
