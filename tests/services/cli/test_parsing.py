"""A command line made into a command: whose mistake it is, in a dataclass of any depth."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from dreamer_core.config import CheckpointConfig
from dreamer_core.errors import BadInput
from services.cli.parsing import Root, parse
from services.runtime.config import RuntimeConfig
from tests.commands import plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1
    scale: float = 1.0

    def __post_init__(self):
        if self.size == 0:
            raise BadInput(f"size={self.size} must be above 0")
        if self.size < 0:
            raise [ValueError, TypeError, KeyError][-1 - self.size]("shapes differ")


@dataclass(frozen=True, kw_only=True)
class Outer:
    the_inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Command:
    outer: Annotated[Outer, Root] = field(default_factory=Outer)
    inner: Inner = field(default_factory=Inner)


Either = (
    Annotated[Command, tyro.conf.subcommand("one", prefix_name=False)]
    | Annotated[Inner, tyro.conf.subcommand("other", prefix_name=False)]
)


@pytest.mark.parametrize("default", [None, Command()])
def test_values_reach_the_fields_that_they_name(default):
    parsed = parse(Command, ["--the-inner.size", "3"], "dreamer test", default)
    assert parsed == Command(outer=Outer(the_inner=Inner(size=3)))


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (Inner, ["--size", "0"], "size=0 must be above 0"),
        (Command, ["--inner.size", "0"], "--inner: size=0 must be above 0"),
        (Command, ["--the-inner.size", "0"], "--the-inner: size=0 must be above 0"),
        (Either, ["one", "--the-inner.size", "0"], "--the-inner: size=0 must be above 0"),
        (Either, ["other", "--size", "0"], "size=0 must be above 0"),
        (Command, ["--inner.scale", "nan"], "--inner: scale=nan must be finite"),
        (Inner, ["--scale=-inf"], "scale=-inf must be finite"),
    ],
)
def test_a_refused_value_is_bad_input_with_the_option_that_holds_it(kind, words, message):
    with pytest.raises(BadInput) as caught:
        parse(kind, words, "dreamer test")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("size", [-1, -2, -3])
@pytest.mark.parametrize(
    ("kind", "option"),
    [(Inner, "--size"), (Command, "--inner.size"), (Command, "--the-inner.size")],
)
def test_a_bug_in_a_dataclass_is_raised_as_it_was(kind, option, size):
    with pytest.raises((ValueError, TypeError, KeyError), match="shapes differ") as caught:
        parse(kind, [f"{option}={size}"], "dreamer test")
    assert not isinstance(caught.value, BadInput)
    assert caught.traceback[-1].name == "__post_init__"


@dataclass(frozen=True, kw_only=True)
class Placed:
    size: int | None = None
    to: Path | None = None


@pytest.mark.parametrize(
    ("word", "size"), [("1e6", 10**6), ("2.5e1", 25), ("1_000", 1000), ("None", None)]
)
def test_a_whole_number_may_have_an_exponent(word, size):
    assert parse(Placed, ["--size", word], "dreamer test") == Placed(size=size)


@pytest.mark.parametrize("word", ["1.5", "1e-3", "nan", "1e400", "1e999999999", "0x10", ""])
def test_what_is_no_whole_number_is_told_with_what_is(capsys, word):
    with pytest.raises(SystemExit, match="2"):
        parse(Inner, ["--size", word], "dreamer test")
    assert "wanted a whole number, such as 1000000 or 1e6" in plain(capsys.readouterr().err)


def test_an_empty_path_is_none_and_not_the_directory_where_one_is(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(Placed, ["--to", ""], "dreamer test")
    assert "wanted a path, got none" in plain(capsys.readouterr().err)


@pytest.mark.parametrize("words", [["--size", "many"], ["--sise", "1"], ["1"]])
def test_a_word_that_no_option_takes_is_told_by_tyro(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        parse(Inner, words, "dreamer test")
    assert "dreamer test --help" in plain(capsys.readouterr().err)


LINES = [
    ("local", "debug", "--checkpoint.interval-s", "9"),
    ("train", "debug", "--checkpoint.interval-s", "9"),
    ("sweep", "debug", "--checkpoint.interval-s", "9"),
    ("submit", "http://127.0.0.1:1", "debug", "--checkpoint.interval-s", "9"),
    ("bench", "env", "--checkpoint.interval-s", "9"),
    ("eval", "run", "--episodes", "9"),
    ("attach", "run", "--episodes", "9"),
    ("watch", "run", "--seed", "9"),
    ("replay", "export", "run", "--to", "x", "--episodes", "9"),
]


@pytest.mark.parametrize("words", LINES, ids=lambda words: words[0])
def test_a_bug_in_the_settings_of_a_command_shows_its_trace(dreamer, monkeypatch, words):
    from services.cli import eval as eval_command
    from services.cli import replay
    from services.runtime import attach
    from services.watch import command

    def fail(_self):
        raise ValueError("shapes differ")

    dreamer("presets")  # whose values are made when it is imported
    kinds = {
        "eval": eval_command.EvalCommand,
        "attach": attach.AttachCommand,
        "watch": command.WatchCommand,
        "replay": replay.ExportEpisodesCommand,
    }
    failing = kinds.get(words[0], RuntimeConfig if words[0] == "train" else CheckpointConfig)
    with monkeypatch.context() as patched:
        patched.setattr(failing, "__post_init__", fail)
        code, stdout, stderr = dreamer(*words)
    assert code == 70, stdout + stderr
    assert "in fail" in stderr and "This is a bug in dreamer (ValueError)" in plain(stderr)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("local", "debug", "--checkpoint.interval-s"), "--checkpoint: interval_s"),
        (("train", "debug", "--world-model.optimizer.learning-rate"), "learning_rate"),
        (("train", "debug", "--runtime.call-timeout-s"), "--runtime: call_timeout_s"),
        (("bench", "env", "--seconds"), "seconds"),
        (("sweep", "debug", "--gpus-per-run"), "gpus_per_run"),
        (("stop", "run", "--timeout-s"), "timeout_s"),
        (("watch", "run", "--speed"), "speed"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_no_number_of_any_command_may_be_infinite(refused, words, option, value):
    assert f"{option}={value} must be finite" in refused(*words, value)
