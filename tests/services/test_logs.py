"""A line of the log is one event with its time; what Ray puts before it is taken off."""

import io
import json
import logging
import warnings
from datetime import datetime

import pytest

from dreamer_core.errors import BadInput
from services.logs import (
    STARTED,
    STOPPED,
    WithoutPrefixes,
    how_it_ended,
    line_of,
    log_to,
    logging_to_file,
    use_log_format,
)

BEGAN_S = 1_790_000_000.25


@pytest.fixture(autouse=True)
def root_is_left_alone(monkeypatch):
    monkeypatch.setenv("DREAMER_LOG_FORMAT", "text")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def test_a_line_has_a_time_with_its_zone():
    time, service, level, words = line_of("learner", "INFO", "a word", BEGAN_S).split(" ", 3)
    assert datetime.fromisoformat(time).timestamp() == int(BEGAN_S)
    assert datetime.fromisoformat(time).tzinfo is not None
    assert (service, level, words) == ("learner", "INFO", "a word")


def test_as_json_each_record_is_one_object_its_trace_included():
    use_log_format("json")
    said = io.StringIO()
    log_to(said, "replay")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it %s", "failed")
    (line,) = said.getvalue().splitlines()
    told = json.loads(line)
    assert told["service"] == "replay" and told["level"] == "ERROR"
    assert told["message"].startswith("it failed\nTraceback")
    assert json.loads(line_of("a", "INFO", "b", BEGAN_S, step=3))["step"] == 3


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_python_warns_of_is_one_line_as_every_other(log_format):
    use_log_format(log_format)
    said = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        log_to(said, "learner")
        warnings.warn("\x1b[33mtwo\n lines\x1b[0m", UserWarning, stacklevel=1)
    (line,) = said.getvalue().splitlines()
    level = json.loads(line)["level"] if log_format == "json" else line.split()[2]
    assert level == "WARNING" and f"UserWarning: two lines ({__file__}:" in line


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ("\x1b[36m(Learner pid=77)\x1b[0m a line\n", "a line\n"),
        ("(Learner pid=77, ip=10.0.0.2) a line\n", "a line\n"),
        ("(ReplayServer pid=7) a line [repeated 2x across cluster]\n",
         "a line [repeated 2x across cluster]\n"),
        ("(pid=77, ip=10.0.0.2) before it has a name\n", "before it has a name\n"),
        ("\x1b[33m(raylet)\x1b[0m 1 worker was killed\n", "1 worker was killed\n"),
        ("(autoscaler +15m30s) a node\n", "a node\n"),
        ("(a remark) and a word\n", "(a remark) and a word\n"),
        ("\n", "\n"),
    ],
)  # fmt: skip
def test_what_ray_puts_before_a_line_is_taken_off(shown, wanted):
    stream = io.StringIO()
    print(shown, end="", file=WithoutPrefixes(stream))
    assert stream.getvalue() == wanted


def test_among_json_a_line_of_another_program_becomes_an_object():
    use_log_format("json")
    stream = io.StringIO()
    print("(Learner pid=77) Segmentation fault", file=WithoutPrefixes(stream))
    print('(Learner pid=77) {"message": "ours"}', file=WithoutPrefixes(stream))
    print("(raylet) out of memory", file=WithoutPrefixes(stream))
    print("(pid=77) before it has a name", file=WithoutPrefixes(stream))
    first, second, raylet, unnamed = map(json.loads, stream.getvalue().splitlines())
    assert (raylet["service"], unnamed["service"]) == ("raylet", "ray")
    assert first["service"] == "learner" and first["message"] == "Segmentation fault"
    assert second == {"message": "ours"}


def fail_after_the_start(path):
    with logging_to_file("supervisor", path):
        logging.getLogger("x").info("%s 9", STARTED)
        raise ValueError("a bug")


@pytest.mark.parametrize("wanted", ["text", "json"])
def test_a_log_without_an_end_is_of_a_process_that_was_killed(tmp_path, wanted):
    use_log_format(wanted)
    path = tmp_path / "supervisor.log"
    assert how_it_ended(path) is None
    with logging_to_file("supervisor", path):
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("x").info("%s 0", STARTED)
    assert how_it_ended(path) == "killed"
    with logging_to_file("supervisor", path):
        logging.getLogger("x").info("%s 9", STOPPED)
        logging.getLogger("x").info("a word after it")
    assert how_it_ended(path) == "stopped"
    with pytest.raises(ValueError, match="a bug"):
        fail_after_the_start(path)
    assert how_it_ended(path) == "failed"


def test_the_end_of_the_newest_process_counts_though_it_never_trained(tmp_path):
    path = tmp_path / "supervisor.log"
    with logging_to_file("supervisor", path):
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("x").info("%s 0", STARTED)
        logging.getLogger("x").info("%s 5", STOPPED)
    with pytest.raises(BadInput), logging_to_file("supervisor", path):
        raise BadInput("no cluster")
    assert how_it_ended(path) == "failed"
