"""Finds the command that was named, runs it, and turns what it raises into an exit code."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from dreamer_core.errors import BUG_EXIT, BadInput, DreamerError, Failed, naming
from services.cli.commands import ANYWHERE, NAMES, usage
from services.cli.say import say
from services.cluster import remote
from services.terminal.never_silent import never_silent

_TRAINS = ("local", "offline", "sweep", "train")
_TELLS_BY_ITSELF = ("demo", *_TRAINS, "watch")
_ON_HELP = """\
With --on CLUSTER, the .yaml file of `ray up` or http://HOST:8265, the command runs on that
cluster's head, and RUN_DIR is a directory there.

"""
_SWEEP_ON_HELP = """\
With --on CLUSTER, the .yaml file of `ray up` or http://HOST:8265, the sweep is started as a job on
that cluster and goes on without this terminal; its directory is one there.

"""


def dispatch(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0 done, 1 failed, 2 bad input, 70 a bug of ours, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without our dashes and bars
    command = arguments[0] if arguments else ""
    try:
        sys.exit(_run(arguments))
    except BrokenPipeError:
        is_complete = command in ("logs", "presets", "scores", "status")
        os._exit(0 if is_complete else Failed.exit_code)  # nobody reads on
    except DreamerError as error:
        _complain(str(error), is_logged=command in _TRAINS)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 (shown with its trace)
        _complain(
            f"This is a bug in dreamer ({type(error).__name__}), and nothing that you did wrong. "
            "Please report it with the trace above. What is stored is good",
            traceback.format_exc(),
            is_logged=command in _TRAINS,
        )
        sys.exit(BUG_EXIT)


def _run(arguments: list[str]) -> int:
    """Runs the command that the arguments name, and returns its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from dreamer_core.presets import PRESETS  # noqa: PLC0415 (for the help alone)

        sys.stdout.write(usage(tuple(PRESETS)))
        return 0 if arguments else BadInput.exit_code
    command, *rest = arguments
    if command == "--version":
        return _say_version()
    with naming("work in the present directory", "Change to one that is there"):
        Path.cwd()
    if command not in NAMES:
        close = difflib.get_close_matches(command, NAMES)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(NAMES)}."
        raise BadInput(f"There is no command {command!r}: {hint} See `dreamer --help`")
    cluster = None
    if command in ANYWHERE:
        from services.cli.parsing import take_option  # noqa: PLC0415 (imports tyro)

        cluster, rest = take_option("--on", rest)
        if {"-h", "--help"} & set(rest):
            cluster = None
    is_meant_to_last = bool({"--follow", "--forever"} & set(rest)) or remote.is_relayed()
    if is_meant_to_last or (cluster is None and command in _TELLS_BY_ITSELF):
        return _call(command, rest, cluster)
    with never_silent(f"dreamer {command}"):
        return _call(command, rest, cluster)


def _call(command: str, rest: list[str], cluster: str | None) -> int:
    """Runs a command, here or on a cluster, and returns its exit code."""
    if cluster is not None and command == "sweep":
        from services.cli import sweep  # noqa: PLC0415 (for it alone)

        return sweep.submit(_with_home(cluster), rest)
    if command in ANYWHERE and {"-h", "--help"} & set(rest):
        sys.stdout.write(_SWEEP_ON_HELP if command == "sweep" else _ON_HELP)
    module = importlib.import_module(f"services.cli.{command.replace('-', '_')}")
    if cluster is not None:
        module.parsed(rest)  # what is wrong with it is told before anything is sent
        return remote.run(_with_home(cluster), [command, *rest], say)
    if command == "submit":  # what follows the cluster is said to another machine
        rest[:1] = map(_with_home, rest[:1])
    else:
        rest = [_with_home(argument) for argument in rest]
    return module.run(rest)


def _say_version() -> int:
    """Says which program this is and what it computes with; imports none of that."""
    from dreamer_core.storage.provenance import program  # noqa: PLC0415 (for this alone)

    own = program()
    say(f"dreamer {own.version or 'of unknown version'}")
    say(f"commit {own.commit or 'unknown'}")
    for name in ("torch", "ray"):
        say(f"{name} {own.libraries.get(name, 'not installed')}")
    say(f"Python {own.python}")
    return 0


def _with_home(argument: str) -> str:
    """Returns `~/PATH` and `--option=~/PATH`, which no shell expands, with the home directory.

    Raises:
        BadInput: there is no such home directory.
    """
    head, is_option, path = argument.partition("=") if argument[:1] == "-" else ("", "", argument)
    if not path.startswith("~"):
        return argument
    expanded = os.path.expanduser(path)  # noqa: PTH111 (a URL may follow it, which has no Path)
    if expanded == path:
        raise BadInput(
            f"Wanted the home directory that {path!r} begins with, but there is none of that name; "
            "give the path whole, or ./~ for a file of that name"
        )
    return f"{head}{is_option}{expanded}"


def _complain(message: str, trace: str = "", *, is_logged: bool = False) -> None:
    """Writes an error to stderr: below its trace a paragraph, or one line where no terminal is.

    The line is one of a log where the command writes one.
    """
    from rich.console import Console  # noqa: PLC0415 (good commands need none)
    from rich.markup import escape  # noqa: PLC0415

    from services.logs import is_json, line_of  # noqa: PLC0415

    words = " ".join(message.split())
    if is_json():
        facts = {"trace": trace} if trace else {}
        sys.stderr.write(f"{line_of('dreamer', 'ERROR', words, time.time(), **facts)}\n")
        return
    sys.stderr.write(trace)
    console = Console(stderr=True)
    if is_logged and not console.is_terminal:
        sys.stderr.write(f"{line_of('dreamer', 'ERROR', words, time.time())}\n")
        return
    words = f"[bold red]dreamer:[/] {escape(words)}"
    console.print(words, highlight=False, soft_wrap=not console.is_terminal)
