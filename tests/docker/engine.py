"""A container engine of a test's own, and a base image made without a registry.

The engine runs in a process namespace of its own with everything it starts, so the kernel ends all
of that when this process ends, however it ends. All it leaves is a directory of pytest's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "dreamer-test-base"  # as in build.yml
_PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "tini": "tini",
    "unshare": "util-linux",
}
_DEBIAN = ("bookworm", "3.11")  # of Docker's own base image as well; and its Python
_WITHOUT_NETWORK = ("--iptables=false", "--ip6tables=false", "--bridge=none")
_START_LIMIT_S = 200


def what_is_missing() -> str | None:
    """What the tests of this folder need and this machine lacks; None if it has all."""
    if os.geteuid() != 0:
        return "a container engine needs root"
    missing = {package for tool, package in _PACKAGES.items() if not shutil.which(tool)}
    if missing:
        return f"a container engine needs the packages {', '.join(sorted(missing))}"
    tried = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    return "docker compose, version 2, is not installed" if tried.returncode else None


def run(*command: str | Path, timeout_s: float = 1500, **environment: str) -> str:
    """Returns what a command in the root of the repository prints.

    Raises:
        AssertionError: it failed; with everything it said.
    """
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Engine:
    """A running engine.

    Args:
        socket: where it listens.
        init_pid: first process of its namespaces, as seen from outside.
    """

    def __init__(self, socket: Path, init_pid: int) -> None:
        self._host = f"unix://{socket}"
        self._enter = ("nsenter", "--target", str(init_pid), "--net", "--pid", "--mount")

    def docker(self, *arguments: str | Path, timeout_s: float = 1500, **environment: str) -> str:
        """Returns what a docker command prints."""
        environment |= {"DOCKER_HOST": self._host}
        return run("docker", *arguments, timeout_s=timeout_s, **environment)

    def beside(self, *command: str) -> str:
        """Returns what a command prints that runs beside the engine, as an operator's would."""
        return run(*self._enter, *command)

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        (found,) = json.loads(self.docker("inspect", container))
        return found

    def crash(self, container: str) -> None:
        """Kills a container's first process; `docker kill` would count as a wish to stop it."""
        self.beside("kill", "-KILL", str(self.inspect(container)["State"]["Pid"]))


@contextlib.contextmanager
def engine(directory: Path, *, has_networks: bool) -> Generator[Engine]:
    """Runs an engine until the block ends.

    Args:
        directory: keeps its images from one engine to the next.
        has_networks: whether containers get networks, which reach nothing outside; else they
            can only be built, on this machine's network.
    """
    directory.mkdir(exist_ok=True)
    socket, log, group = directory / "socket", directory / "log", f"dreamer-test-{os.getpid()}"
    command = [
        *("dockerd", "--storage-driver=overlay2", f"--data-root={directory / 'data'}"),
        *(f"--exec-root={directory / 'exec'}", f"--pidfile={directory / 'pid'}"),
        *(f"--host=unix://{socket}", f"--cgroup-parent=/{group}"),
        *(() if has_networks else _WITHOUT_NETWORK),
    ]
    namespaces = ["--pid", "--mount", *(["--net"] if has_networks else [])]
    unshare = ["unshare", "--fork", "--kill-child", "--mount-proc", *namespaces]
    with log.open("a") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *unshare, *("sh", "-euc", _FIRST, "sh"), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(socket, process, log)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield Engine(socket, int(children))
    finally:
        process.kill()
        process.wait()
        (directory / "pid").unlink(missing_ok=True)
        shutil.rmtree(directory / "exec", ignore_errors=True)  # pids, which mean others by then
        _remove_groups(group)


_FIRST = 'ip link set lo up; exec tini -s -- "$@"'


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_LIMIT_S
    ask = ["docker", "--host", f"unix://{socket}", "info"]
    while subprocess.run(ask, check=False, capture_output=True).returncode:
        is_alive = process.poll() is None and time.monotonic() < deadline_s
        assert is_alive, f"the engine did not start: {log.read_text()[-4000:]}"
        time.sleep(0.2)


def _remove_groups(name: str) -> None:
    """Removes the control groups of containers that are gone, which outlive their namespaces."""
    for top in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup") / name]:
        for path in sorted(top.glob("**/"), reverse=True):
            with contextlib.suppress(OSError):  # a process in it is not quite gone
                path.rmdir()


def make_base_image(engine: Engine, directory: Path) -> None:
    """Makes what `python:3.12-slim-bookworm` is elsewhere: Debian with Python.

    It also carries all packages of the project, so that builds from it need no index, and the
    packages are those of this machine's index.
    """
    release, python = _DEBIAN
    root = directory / "root"
    packages = "--include=ca-certificates,python3,python3-venv"
    with ThreadPoolExecutor() as pool:
        debian = pool.submit(run, "debootstrap", "--variant=minbase", packages, release, root)
        pool.submit(_download, directory / "wheels", python).result()
        debian.result()
    shutil.move(directory / "wheels", root / "wheels")
    (root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    archive = directory / "root.tar"
    run("tar", "--create", "--directory", root, "--file", archive, ".")
    engine.docker("import", archive, BASE_IMAGE)
    archive.unlink()
    run("rm", "-rf", root)


def _download(target: Path, python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["s3"], "setuptools"]
    pinned = ("-c", ROOT / "constraints.txt", "--only-binary=:all:", f"--python-version={python}")
    run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", target, *pinned, *wanted)
