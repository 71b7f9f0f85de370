"""The sizes that keep the house readable: of every file, and of every function.

A function's body is what comes after its signature and its docstring, blank lines included.
"""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE_LINES, BODY_LINES, MEDIAN_BODY_LINES = 350, 50, 8
LONGER = {"dreamer_core/config.py": 400}  # every setting with its unit, in one place
FOLDERS = ("dreamer_core", "services", "tests", "benchmarks", "deploy")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


def bodies_of(path):
    """(name, lines of the body) of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            statements = node.body[1:] if has_docstring else node.body
            first = min((each.lineno for each in statements), default=node.end_lineno + 1)
            yield node.name, node.end_lineno - first + 1


def test_no_file_is_too_long_to_be_read_in_one_go():
    lines = {name_of(path): path.read_text().count("\n") for path in FILES}
    assert {n: k for n, k in lines.items() if k > LONGER.get(n, FILE_LINES)} == {}


def test_no_function_is_longer_than_a_screen():
    bodies = ((path, *body) for path in FILES for body in bodies_of(path))
    assert [(name_of(p), name, k) for p, name, k in bodies if k > BODY_LINES] == []


@pytest.mark.parametrize("package", ["dreamer_core", "services"])
def test_half_of_all_functions_are_a_few_lines(package):
    sizes = [k for path in (ROOT / package).rglob("*.py") for _, k in bodies_of(path)]
    assert statistics.median(sizes) <= MEDIAN_BODY_LINES


def test_a_body_is_counted_without_its_signature_and_its_docstring(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(
        'def f(\n    a,\n):\n    """Says.\n\n    More.\n    """\n    a += 1\n\n    return a\n'
    )
    assert list(bodies_of(path)) == [("f", 3)]
