"""Commands on a cluster, given from elsewhere: `dreamer submit`, and `--on CLUSTER` of others.

A cluster is named by the file that `ray up` was given, and then a command goes over ssh to the
head; or by the address of its job server, http://HOST:8265, and then it goes as a Ray job. Either
way it runs in the home directory on the head, where relative run directories are looked for, and
what it prints appears here.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import Any

from dreamer_core.errors import BadInput, Failed, first_line, naming
from services.cluster.signals import raised_by_signals
from services.logs import ESCAPES, STARTED

_RELAYED = "DREAMER_IS_RELAYED"  # set where `run` has sent a command to
_JOB_SERVER = "http://127.0.0.1:8265"  # as seen from the head
_TAIL_LINES = 5
_ANSWER_S = 30.0  # of a job server; a busy head takes seconds
_TEN_LINES = "printf '\\n%.0s' {1..10}"  # Ray hands on ten at once, and fewer after a second
SWEEP_STARTED = "Started: "
"""What a sweep says once it hands out runs."""

Say = Callable[[str], None]


class ClusterUnreachable(Failed):
    """A command could not be brought to the cluster, or its result not back."""


def is_cluster(name: str) -> bool:
    """Whether a word names a cluster: a .yaml file or an http address."""
    return name.startswith(("http://", "https://")) or name.endswith((".yaml", ".yml"))


def require_cluster(name: str) -> None:
    """Raises BadInput unless the word names a cluster."""
    is_file = name.endswith((".yaml", ".yml"))
    if not is_cluster(name) or (is_file and not Path(name).is_file()):
        raise BadInput(
            f"Wanted a cluster, but got {name!r}, which is no file; name the .yaml file that "
            "`ray up` was given, or the address of Ray's job server, as http://HOST:8265"
        )


def run(cluster: str, words: list[str], say: Say) -> int:
    """Runs `dreamer WORDS` on the head, shows what it prints, returns its exit code.

    Raises:
        BadInput: the name is of no cluster.
        ClusterUnreachable: the command did not get there, or broke off.
    """
    require_cluster(cluster)
    mark = secrets.token_hex(8)
    script = _script(words, mark)
    with raised_by_signals():
        if not cluster.startswith("http"):
            with closing(_over_ssh(cluster, script)) as lines:
                return _relay(lines, mark, say)
        client, job = _job_client(cluster), _name_of_job("dreamer-" + words[0])
        try:
            _submit(client, script, job)
            return _followed(client, job, mark, say, until=None)
        except BaseException:  # Ctrl-C, or nobody reads on: the command must not go on there
            with suppress(*_broken()):
                client.stop_job(job)
            raise


def submit(cluster: str, words: list[str], directory: Path, say: Say) -> int:
    """Starts `dreamer train` or `dreamer sweep` as a Ray job on the head; returns once it trains.

    Args:
        cluster: see the module.
        words: command, preset and options, the directory among them.
        directory: of the run or of the sweep, for the name of the job.
        say: is shown what the command prints until then.

    Returns:
        0, or the exit code of a command that ended before it trained.

    Raises:
        BadInput, ClusterUnreachable: as in `run`.
    """
    require_cluster(cluster)
    command, *rest = words
    is_sweep = command == "sweep"
    if not cluster.startswith("http"):
        sent = ["sweep", *rest, "--on", _JOB_SERVER] if is_sweep else ["submit", _JOB_SERVER, *rest]
        return run(cluster, sent, say)
    client, mark = _job_client(cluster), secrets.token_hex(8)
    address = "--ray-address" if is_sweep else "--runtime.ray-address"
    script = _script([*words, address, "auto"], mark)
    job = _name_of_job(re.sub(r"[^\w-]", "_", directory.name))
    _submit(client, script, job)
    say(f"Job {job}")
    until = SWEEP_STARTED if is_sweep else STARTED
    return _followed(client, job, mark, say, until=until)


def say_how_to_go_on(cluster: str, directory: Path, say: Say) -> None:
    """Says what a job that was submitted is followed with."""
    say("It goes on without this terminal:")
    for command in ("status", "logs", "stop"):
        say(f"  dreamer {command} {directory} --on {cluster}")


def _script(words: list[str], mark: str) -> str:
    """What a shell on the head runs: the command between two marks, the second with its code.

    The output of a training is searched for what it says, so that no narrow terminal may fold it.
    """
    columns = 200 if words[0] in ("train", "sweep") else shutil.get_terminal_size().columns
    return (
        f"cd; export COLUMNS={columns} NO_COLOR=1 {_RELAYED}=1; echo {mark}; "
        f"dreamer {shlex.join(words)}; code=$?; echo {mark} $code; {_TEN_LINES}; exit $code"
    )


def _relay(lines: Iterable[str], mark: str, say: Say) -> int:
    """Shows the lines between the marks; returns the exit code behind the second."""
    reader, other = _Marked(mark, say), list[str]()
    for line in lines:
        reader.take(line)
        other = [*other, line][-_TAIL_LINES:]
    return reader.code_or_raise(other)


class _Marked:
    """Reads a command's output between its marks."""

    def __init__(self, mark: str, say: Say) -> None:
        self._mark, self._say = mark, say
        self._has_begun = False
        self.code: int | None = None

    def take(self, line: str) -> None:
        line = ESCAPES.sub("", line.rstrip("\r\n"))
        if line.startswith(f"{self._mark} "):
            self.code = int(line.split()[1])
        elif line == self._mark:
            self._has_begun = True
        elif self._has_begun and self.code is None and self._mark not in line:
            self._say(line)

    def code_or_raise(self, tail: list[str]) -> int:
        if self.code is None:
            words = " ".join(" ".join(tail).split()) or "no word came back"
            raise ClusterUnreachable(
                f"Wanted the end of a command on the cluster, but the connection gave none: {words}"
            )
        return self.code


def _over_ssh(cluster: str, script: str) -> Generator[str]:
    """Yields the lines of Ray's own ssh to the head, and of what runs there."""
    ray = Path(sys.executable).with_name("ray")
    # In a shell of its own, since Ray wants to go on after it.
    plain = ("--log-style=pretty", "--log-color=false")
    command = [ray, "exec", *plain, cluster, f"bash -c {shlex.quote(script)} || true"]
    with naming(f"run {ray}", "Install Ray beside this command"):
        process = subprocess.Popen(  # noqa: S603 (Ray's own command; the rest is quoted)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    with process:
        assert process.stdout is not None
        try:
            yield from process.stdout
        finally:  # Ctrl-C, or nobody reads on: the command must not go on there
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def _job_client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415 (takes a second)

    class Client(JobSubmissionClient):
        """Ray's own, which waits for ever."""

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, timeout=_ANSWER_S, **options)

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what fails is raised, and told
    try:
        return Client(address)
    except (*_broken(), ValueError) as error:
        raise _unreachable(address, error) from error


def _name_of_job(name: str) -> str:
    return f"{name}-{secrets.token_hex(3)}"


def _submit(client: Any, script: str, job: str) -> None:
    """Starts a script as a job of this name."""
    try:
        client.submit_job(entrypoint=f"bash -c {shlex.quote(script)}", submission_id=job)
    except _broken() as error:
        raise _unreachable(client.get_address(), error) from error


def _broken() -> tuple[type[Exception], ...]:
    """What the way to a job server may end with."""
    import aiohttp  # noqa: PLC0415 (both take their time)
    from ray.exceptions import AuthenticationError  # noqa: PLC0415

    return OSError, RuntimeError, AuthenticationError, aiohttp.ClientError


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "Read timed out" in str(error):  # the second: requests
        return (
            f"no answer came within {_ANSWER_S:g} s: see whether `ray job list` answers on the "
            "head, and whether something else listens there"
        )
    return first_line(error).partition(". ")[0].rstrip(".")


def _unreachable(address: str, error: Exception) -> ClusterUnreachable:
    return ClusterUnreachable(
        f"Wanted Ray's job server at {address}, but {_reason(error)}. It listens on the "
        "head's loopback unless told otherwise: use an ssh tunnel to its port, and the cluster's "
        "token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
    )


def _followed(client: Any, job: str, mark: str, say: Say, *, until: str | None) -> int:
    """Shows a job's output; see `_follow`."""
    import asyncio  # noqa: PLC0415 (for this alone)

    try:
        return asyncio.run(_follow(client, job, mark, say, until=until))
    except BrokenPipeError:  # of what is said here
        raise
    except _broken() as error:
        raise _unreachable(client.get_address(), error) from error


async def _follow(client: Any, job: str, mark: str, say: Say, *, until: str | None) -> int:
    """Shows a job's output until its end, or until a line with these words; 0 then.

    A server that no longer answers may hold the line all the same, so it is asked now and then,
    in a thread that nobody waits for: an answer may take as long as `_ANSWER_S`.
    """
    import asyncio  # noqa: PLC0415 (for jobs alone)

    reader, tail, lost = _Marked(mark, say), list[str](), list[Exception]()
    loop, is_over = asyncio.get_running_loop(), threading.Event()

    def ask_on() -> None:
        while not is_over.wait(_ANSWER_S):
            try:
                client.get_job_status(job)
            except _broken() as error:
                lost.append(error)
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(give_up)
                return

    def give_up() -> None:
        if not is_over.is_set():
            wait.reschedule(0.0)

    try:
        async with asyncio.timeout(None) as wait, aclosing(_job_lines(client, job)) as lines:
            threading.Thread(target=ask_on, daemon=True).start()
            async for line in lines:
                reader.take(line)
                tail = [*tail, line][-_TAIL_LINES:]
                if until is not None and until in line:
                    return 0
                if reader.code is not None:  # Ray takes seconds more to notice that it has ended
                    break
    except TimeoutError as error:
        raise (lost or [error])[0] from None
    finally:
        is_over.set()
    return reader.code_or_raise(tail)


async def _job_lines(client: Any, job: str) -> AsyncGenerator[str]:
    rest = ""
    async for text in client.tail_job_logs(job):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def is_relayed() -> bool:
    """Whether this command was itself sent by `run`."""
    return _RELAYED in os.environ
