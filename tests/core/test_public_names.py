"""The public names of dreamer_core: few, there when asked for, and all that the docs use."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dreamer_core

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("name", dreamer_core.__all__)
def test_each_public_name_is_found_in_its_home(name):
    assert getattr(dreamer_core, name).__name__ == name
    assert name in dir(dreamer_core)


def test_importing_the_package_loads_neither_torch_nor_opencv():
    code = "import sys, dreamer_core; sys.exit(bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_config_is_made_without_torch():
    code = "import sys, dreamer_core as d; d.preset('atari'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="'dreamer_core' has no attribute 'trian_local'"):
        dreamer_core.trian_local  # noqa: B018
    assert not hasattr(dreamer_core, "trian_local")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_import_public_names_alone(page):
    for example in EXAMPLE.findall(page.read_text()):
        assert "from dreamer_core." not in example and "import dreamer_core." not in example
        for names in re.findall(r"from dreamer_core import (.*)", example):
            assert set(names.split(", ")) <= set(dreamer_core.__all__)


def test_the_readme_shows_a_run_from_python():
    assert "train_local(" in "".join(EXAMPLE.findall((ROOT / "README.md").read_text()))
