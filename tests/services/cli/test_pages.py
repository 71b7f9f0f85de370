"""Every `dreamer` command that a page shows is understood, up to the point where it would run."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from services.cli import main, options, parsing
from services.cli.commands import NAMES

ROOT = Path(__file__).parents[3]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:\.venv/bin/)?dreamer (.*)$")

SPAN = re.compile(r"`(?:\.venv/bin/)?dreamer ([^`]+)`")
PLACEHOLDER = re.compile(r"\b[A-Z_]{3,}\b|[\[|]|\.\.\.|\b[NX]\b")

MENTION = re.compile(r"[a-z-]+( (--)?[a-z-]+)?")  # of a command by its name, or with an option


class Understood(BaseException):
    """The words make a command."""


def commands(page):
    """Arguments of each command on lines of their own or in a sentence, but those with gaps."""
    text = page.read_text()
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    found = [match[1] for line in lines if (match := COMMAND.match(line))]
    found = [re.split(r" (?:[|&>]|&&) ?", words)[0] for words in found]
    spans = [" ".join(words.split()) for words in SPAN.findall(text)]
    spans = [words for words in spans if not MENTION.fullmatch(words)]
    return [words for words in [*found, *spans] if not PLACEHOLDER.search(words)]


SHOWN = sorted({(page.name, words) for page in PAGES for words in commands(page)})


@pytest.fixture
def understand(monkeypatch):
    def stop(*arguments, **named):
        parsing.parse(*arguments, **named)
        raise Understood

    for name in NAMES:
        module = importlib.import_module(f"services.cli.{name.replace('-', '_')}")
        monkeypatch.setattr(module, "parse", stop, raising=False)
    monkeypatch.setattr(options, "parse", stop)
    return main


@pytest.mark.parametrize(("page", "words"), SHOWN)
def test_a_command_that_a_page_shows_is_understood(understand, page, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(words, comments=True)
    _, arguments = parsing.take_option("--on", arguments)
    with pytest.raises((Understood, SystemExit)) as ended:
        understand(arguments)
    assert ended.type is Understood or ended.value.code == 0, words


def test_pages_show_commands():
    assert len(SHOWN) > 20
