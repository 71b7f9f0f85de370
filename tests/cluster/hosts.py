"""Hosts on one machine, joined by cables that can be cut, and a Ray cluster on them.

A host has its own network, processes, name, `/tmp/ray`, `/dev/shm` and disk; everything else it
shares with this machine. No namespace, link or mount of it has a name outside: processes hold
them, and the kernel kills those when this process ends, however it ends. So tests that run beside
each other cannot meet, and all they leave is a directory of pytest's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.runtime.placement import ROLE_LABEL

ROOT = Path(__file__).parents[2]
_RAY = Path(sys.executable).with_name("ray")
_RAY_PORT = 6379
BLOCK = "--block"
_OBJECT_STORE_BYTES = 200_000_000
_HEALTH_CHECKS = {  # a silent host is given up after 4 to 6 s instead of 15 and more
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
_PACKAGES = {"ip": "iproute2", "tini": "tini", "unshare": "util-linux", "mount": "mount"}
_UNTIL_WE_END = ("setpriv", "--pdeathsig", "KILL")
_NAMESPACES = ("--net", "--pid", "--mount", "--uts", "--ipc")
_SWITCH = "ip link add switch type bridge; ip link set switch up; echo ready; exec sleep infinity"
_INIT = """
echo "$1" >/proc/sys/kernel/hostname
ip link set lo up
mkdir -p /tmp/ray
mount --bind "$2/ray" /tmp/ray
mount --bind "$2/disk" "$3"
mount -t tmpfs -o size=1g tmpfs /dev/shm
echo ready
exec tini -s -- sleep infinity
"""


def what_is_missing() -> str | None:
    """What hosts need and this machine lacks; None if it has all."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root"
    missing = [package for tool, package in _PACKAGES.items() if not shutil.which(tool)]
    if missing:
        return f"hosts in network namespaces need the packages {', '.join(missing)}"
    attempt = ("unshare", "--fork", *_NAMESPACES, "true")
    tried = subprocess.run(attempt, check=False, capture_output=True, text=True)
    return f"this machine allows no namespaces: {tried.stderr}" if tried.returncode else None


class Host:
    """A host that is up until it is powered off.

    Args:
        name: of the host, and of its cable's end in the switch.
        address: of its network interface.
        directory: holds `disk` and `ray`, what it has on disk and in /tmp/ray.
        environment: variables of every command in it.
        init_pid: its first process, as seen from outside.
        switch_pid: a process in the switch.
    """

    def __init__(
        self,
        name: str,
        address: str,
        directory: Path,
        environment: dict[str, str],
        *,
        init_pid: int,
        switch_pid: int,
    ) -> None:
        self.name, self.address, self.directory = name, address, directory
        self._environment = environment
        self._init_pid, self._switch_pid = init_pid, switch_pid
        self._pid_namespace = Path(f"/proc/{init_pid}/ns/pid").readlink()

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Starts a command in this host, in the root of the repository."""
        enter = ("nsenter", "--target", str(self._init_pid), *_NAMESPACES)
        return subprocess.Popen(
            [*enter, "env", f"--chdir={ROOT}", *command],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str | Path, timeout_s: float = 200) -> str:
        """Returns what a command in this host prints.

        Raises:
            AssertionError: it failed, or took too long.
        """
        process = self.start(*command)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{command} on {self.name} took over {timeout_s} s") from error
        finally:
            process.kill()
        assert process.returncode == 0, f"{command} failed on {self.name}: {stdout}{stderr}"
        return stdout

    def runs(self, title: str) -> bool:
        """Whether a process with this title runs here."""
        return any(line.startswith(title) for line in self.processes())

    def terminate(self, words: str) -> None:
        """Sends SIGTERM to the one process here with these words in its command line."""
        (pid,) = (pid for pid, line in self._lines().items() if words in line)
        os.kill(pid, signal.SIGTERM)

    def processes(self) -> list[str]:
        """Command lines of all that runs here; none once it is off."""
        return list(self._lines().values())

    def _lines(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (path / "ns/pid").readlink() == self._pid_namespace:
                    line = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(path.name)] = line.decode().strip()
        return found

    def sent_bytes(self) -> int:
        """Bytes that went out on the cable so far."""
        lines = Path(f"/proc/{self._init_pid}/net/dev").read_text().splitlines()
        (counts,) = (line.split(":")[1].split() for line in lines if "cable:" in line)
        return int(counts[8])

    def slow_cable(self, bytes_per_s: int) -> None:
        """Limits what goes out on the cable."""
        limit = f"rate {8 * bytes_per_s}bit burst 16kb latency 200ms"
        _in_network(self._init_pid, f"tc qdisc add dev cable root tbf {limit}")

    def cut_cable(self) -> None:
        """From now on nothing gets in or out, and nobody is told."""
        _in_network(self._switch_pid, f"ip link set {self.name} down")

    def heal_cable(self) -> None:
        """Plugs the cable in again."""
        _in_network(self._switch_pid, f"ip link set {self.name} up")

    def power_off(self) -> None:
        """Ends every process; no last word leaves the host."""
        self.cut_cable()
        os.kill(self._init_pid, signal.SIGKILL)


@contextlib.contextmanager
def hosts(directory: Path, count: int) -> Generator[list[Host]]:
    """Runs hosts h1, h2, ... on one switch until the block ends.

    Args:
        directory: new or empty; each host finds its own disk in `disk`.
        count: of hosts.
    """
    (directory / "disk").mkdir(parents=True)
    environment = {
        **_HEALTH_CHECKS,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }
    with contextlib.ExitStack() as stack:
        switch_pid = stack.enter_context(_running("unshare", "--net", "sh", "-euc", _SWITCH))
        up: list[Host] = []
        for number in range(1, count + 1):
            name, address = f"h{number}", f"10.77.0.{number}"
            init_pid = stack.enter_context(_booted(name, directory))
            _plug_in(name, address, init_pid=init_pid, switch_pid=switch_pid)
            own = directory / name
            host = Host(name, address, own, environment, init_pid=init_pid, switch_pid=switch_pid)
            up.append(host)
        yield up


@contextlib.contextmanager
def _booted(name: str, directory: Path) -> Generator[int]:
    """Runs the first process of a host; yields its id."""
    own = directory / name
    for place in ("ray", "disk"):
        (own / place).mkdir(parents=True)
    unshare = ("unshare", "--fork", "--kill-child", "--mount-proc", *_NAMESPACES)
    with _running(*unshare, "sh", "-euc", _INIT, "sh", name, own, directory / "disk") as pid:
        yield int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def _plug_in(name: str, address: str, *, init_pid: int, switch_pid: int) -> None:
    _in_network(
        switch_pid,
        f"ip link add {name} type veth peer name cable netns {init_pid};"
        f"ip link set {name} master switch up",
    )
    _in_network(init_pid, f"ip address add {address}/24 dev cable; ip link set cable up")


@contextlib.contextmanager
def _running(*command: str | Path) -> Generator[int]:
    """Runs a process that says when it is ready; yields its id."""
    with subprocess.Popen(
        [*_UNTIL_WE_END, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout and process.stderr
            is_ready = process.stdout.readline() == "ready\n"
            assert is_ready, f"{command} failed: {process.stderr.read()}"
            yield process.pid
        finally:
            process.kill()


def _in_network(pid: int, commands: str) -> None:
    enter = ("nsenter", "--target", str(pid), "--net")
    subprocess.run([*enter, "sh", "-euc", commands], check=True, timeout=60)


def start_ray(hosts: Sequence[Host], roles: Sequence[str | None]) -> str:
    """Starts Ray on all hosts, the first being the head; returns the address of the cluster."""
    head, *workers = hosts
    head.run(*_ray_start(head, roles[0]), "--head", f"--port={_RAY_PORT}", "--include-dashboard=0")
    address = f"{head.address}:{_RAY_PORT}"
    with ThreadPoolExecutor() as pool:
        list(pool.map(join_ray, workers, [address] * len(workers), roles[1:]))
    return address


def join_ray(host: Host, address: str, role: str | None) -> None:
    """Starts Ray on a host, as a worker of the cluster."""
    host.run(*_ray_start(host, role), f"--address={address}")


def join_ray_until_sigterm(host: Host, address: str, role: str) -> subprocess.Popen[str]:
    """Starts Ray on a host as KubeRay and systemd do: by a command that waits for a signal."""
    return host.start(*_ray_start(host, role), f"--address={address}", BLOCK)


def _ray_start(host: Host, role: str | None) -> list[str | Path]:
    label = [f"--labels={ROLE_LABEL}={role}"] if role else []
    size = ("--num-cpus=3", f"--object-store-memory={_OBJECT_STORE_BYTES}")
    return [_RAY, "start", f"--node-ip-address={host.address}", *size, *label]
