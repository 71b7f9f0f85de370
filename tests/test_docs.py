"""What the pages name as proof is there."""

import ast
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


def test_every_fault_put_into_the_simulation_has_its_row():
    faults = (ROOT / "tests" / "simulation" / "mutants.py").read_text()
    names = re.findall(r'^    "(.+)": \(', faults, re.MULTILINE)
    page = PAGES[ROOT / "docs" / "operations.md"]
    assert names and [name for name in names if f"\n| {name} | " not in page] == []


def test_every_member_that_the_architecture_names_is_there():
    members = {}
    for path in (*(ROOT / "dreamer_core").rglob("*.py"), *(ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                names = members.setdefault(node.name, set())
                names |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                names |= {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
    page = PAGES[ROOT / "docs" / "architecture.md"]
    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", page))
    assert len(named) > 30
    assert [pair for pair in sorted(named) if pair[1] not in members.get(pair[0], ())] == []
