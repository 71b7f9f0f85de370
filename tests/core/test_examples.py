"""The examples of the pages run, one after the other, as a reader would run them.

An example whose first line is `# NAME.py` is a file of that name; any other is run.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/environments.md", "docs/library.md")
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")
SHORTER = {
    'preset("gymnasium_tiny")': 'preset("debug")',
    "steps=20_000": "steps=80",
    "steps=300": "steps=70",
    "episodes=2": "episodes=1",
}
"""What the pages say, and what is run in its place."""


def examples(page):
    return EXAMPLE.findall((ROOT / page).read_text())


def shortened(code):
    for said, run in SHORTER.items():
        code = code.replace(said, run)
    return code


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """An empty working directory whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("README.md", "runs/from_python/learning_curve.png"),
        ("docs/environments.md", "my_package/my_module.py"),
        ("docs/library.md", "dream.png"),
    ],
)
def test_the_examples_of_a_page_run_in_their_order(page, written, directory):
    names = {}
    for code in examples(page):
        if "onnx" in code and find_spec("onnxruntime") is None:  # of the extra `export`
            continue
        file = FILE.match(code)
        if file is None:
            exec(compile(shortened(code), page, "exec"), names)
        else:
            path = directory / file[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(code)
    assert (directory / written).stat().st_size > 0


def test_what_is_shortened_stands_on_a_page():
    text = "".join(code for page in PAGES for code in examples(page))
    assert [said for said in SHORTER if said not in text] == []


def test_training_takes_fifteen_lines():
    (train,) = (code for code in examples("docs/library.md") if "train_local(" in code)
    assert len(train.splitlines()) <= 15
