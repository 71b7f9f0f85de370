"""What `train` and `local` print beside the table."""

import io
import logging

from rich.console import Console

from services.cli.training import log_through


def test_lines_of_imports_are_left_out_and_all_others_are_shown():
    said, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log_through(Console(file=said))
        for name in ("absl", "OpenGL.acceleratesupport", "dreamer_core.run.trainer", "my_package"):
            logging.getLogger(name).info("told by %s", name)
        logging.getLogger("absl").warning("a warning")
    finally:
        root.handlers, root.level = handlers, level
    lines = [line.split("INFO")[-1].strip() for line in said.getvalue().splitlines()]
    assert lines[:2] == ["told by dreamer_core.run.trainer", "told by my_package"]
    assert "told by absl" not in said.getvalue() and "a warning" in lines[2]
