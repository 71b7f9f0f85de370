"""Machines that `ray up` reaches over ssh, and the one of the operator, for tests."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.hosts import ROOT, Host

BIN = Path(sys.executable).parent
_PACKAGES = {"sshd": "openssh-server", "ssh-keygen": "openssh-client", "rsync": "rsync"}
_ADDRESSES = ("192.0.2.10", "192.0.2.11", "192.0.2.12")  # of deploy/ray/local.yaml
_SIZE = "ray start --num-cpus=3 --object-store-memory=200000000 "
# root's home becomes a directory of the host's own, as it would be on a machine of its own.
_MOVE_HOME = """
mkdir -p "$1/.ssh"
sed "s#^root:.*#root:x:0:0:root:$1:/bin/bash#" /etc/passwd >"$1/passwd"
mount --bind "$1/passwd" /etc/passwd
"""
# Everything is installed already, so that `make install` finds nothing to do.
_SERVE_SSH = """
cp "$2.pub" "$1/.ssh/authorized_keys"
mkdir -p "$1/dreamer/.venv" /run/sshd
ln -s "$4/.venv/bin" "$1/dreamer/.venv/bin"
echo "export PYTHONPATH=$4" >"$1/.bashrc"
touch -d tomorrow "$1/dreamer/.venv/.installed" "$1/dreamer/.venv/.installed-control,s3"
/usr/sbin/sshd -f /dev/null -h "$2" -o UsePAM=no -o StrictModes=no -o PidFile=none \
  -o ListenAddress="$3"
"""


def what_is_missing() -> str | None:
    """What ssh between hosts needs and this machine lacks; None if it has all."""
    path = "/usr/sbin:/usr/bin:/bin:/usr/local/bin"
    missing = [package for tool, package in _PACKAGES.items() if not shutil.which(tool, path=path)]
    return f"`ray up` needs the packages {', '.join(missing)}" if missing else None


class Operator:
    """Somebody at a host that is no part of the cluster, with an ssh key and the token.

    Args:
        host: of the operator.
        machines: of the cluster, the head first; they get an ssh server.
    """

    def __init__(self, host: Host, machines: Sequence[Host]) -> None:
        self._host = host
        self.home = _home(host)
        self.token = secrets.token_hex(32)
        host.run("sh", "-euc", _MOVE_HOME, "sh", self.home)
        key = self.home / ".ssh" / "id_ed25519"
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        (self.home / ".ray").mkdir()
        token = self.home / ".ray" / "auth_token"
        token.write_text(self.token)
        token.chmod(0o600)
        for machine in machines:
            home = _home(machine)
            machine.run("sh", "-euc", _MOVE_HOME, "sh", home)
            machine.run("sh", "-euc", _SERVE_SSH, "sh", home, key, machine.address, str(ROOT))
        self.cluster = self.home / "cluster.yaml"
        self.cluster.write_text(_cluster_file(machines))

    def dreamer(self, *words: str | Path, timeout_s: float = 200) -> str:
        """Returns what a command prints; fails if it does."""
        return self.run(BIN / "dreamer", *words, timeout_s=timeout_s)

    def run(self, *command: str | Path, timeout_s: float = 200) -> str:
        """As Host.run, with the operator's home and without the token in the environment."""
        own = ("env", "-u", "RAY_AUTH_TOKEN", "-u", "RAY_AUTH_MODE", f"HOME={self.home}")
        return self._host.run(*own, f"PATH={BIN}:/usr/bin:/bin", *command, timeout_s=timeout_s)


def _home(host: Host) -> Path:
    return host.directory / "home"


def _cluster_file(machines: Sequence[Host]) -> str:
    """deploy/ray/local.yaml with the addresses, user and size of these hosts."""
    text = (ROOT / "deploy" / "ray" / "local.yaml").read_text()
    for written, machine in zip(_ADDRESSES, machines, strict=True):
        text = text.replace(written, machine.address)
    return text.replace("ssh_user: dreamer", "ssh_user: root").replace("ray start ", _SIZE)
