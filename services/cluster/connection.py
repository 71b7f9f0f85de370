"""How a process joins a Ray cluster, or starts one of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import ray
from ray._common import utils as ray_files
from ray._private import ray_constants, worker
from ray._private import services as ray_services
from ray._private.node import Node
from ray.exceptions import RayError, RayTaskError

from dreamer_core.envs.base import OWN_PACKAGES
from dreamer_core.errors import BadInput, Failed, first_line
from services.cluster.auth_token import close_token_to_others, keep_token_private
from services.cluster.cluster_address import AUTO, require_address
from services.cluster.ray_errors import deliberate, reason
from services.cluster.sessions import cleared_if_it_fails, own_session
from services.cluster.signals import children_of, kept_from_children

logger = logging.getLogger(__name__)

_CONNECT_S = 10.0
_LOOPBACK = "127.0.0.1"
_LOOPBACKS = ("localhost", _LOOPBACK, "::1")
_LONGEST_SOCKET = 107  # bytes of a path, by the kernel
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
NODE_ID_LABEL = "ray.io/node-id"
"""Label that Ray gives to every node."""


class NoCluster(Failed):
    """There is no Ray cluster to work on, or none any more."""


@contextmanager
def connected(
    address: str | None,
    *,
    namespace: str,
    object_store_bytes: int | None = None,
    num_cpus: int | None = None,
) -> Generator[None]:
    """Connects to the cluster at an address; without one, runs a cluster that ends with the block.

    Args:
        address: HOST:PORT of Ray's control store, or `auto`: that of RAY_ADDRESS, else that of this
            user's last `ray start` on this machine.
        namespace: of the names of actors.
        object_store_bytes: shared memory of a cluster that is started here; None: Ray chooses.
        num_cpus: that it has for Ray; None for those of this machine.

    Raises:
        NoCluster: there is no cluster at the address that lets this machine in, none can be
            started here, or it was lost.
        BadInput: that is no address, the cluster cannot have that object store, the token cannot be
            written, or another package would hide this program's own from its processes.
    """
    _require_own_packages()
    session: AbstractContextManager[None] = nullcontext()
    if address is None:
        if os.environ["RAY_AUTH_MODE"] != "token":
            logger.warning(
                "RAY_AUTH_MODE=%s: whoever reaches Ray's ports on this machine can run code here; "
                "unset it, or set it to token",
                os.environ["RAY_AUTH_MODE"],
            )
        keep_token_private()
    else:
        close_token_to_others()
    try:
        if address is None:
            session = own_session(_start(namespace, num_cpus, object_store_bytes))
        else:
            _join(address, namespace)
    except SystemExit as end:  # what Ray makes of a SIGTERM that comes while it starts
        raise SystemExit(128 + signal.SIGTERM) from end
    try:
        with session:
            try:
                yield
            finally:
                _shut_down()
    except RayTaskError as error:  # what a worker raised; a bug, unless it meant it
        cause = deliberate(error)
        if cause is None:
            raise
        raise cause from error
    except RayError as error:
        raise NoCluster(f"The Ray cluster was lost: {reason(error)}") from error


def _start(namespace: str, num_cpus: int | None, object_store_bytes: int | None) -> Path:
    """Starts a cluster that ends with this process and that no other machine reaches.

    Returns:
        Where Ray keeps its sockets and logs.
    """
    directory = _ray_directory()
    place = Path(directory or ray_files.get_default_ray_temp_dir())
    try:
        with kept_from_children(), _on_loopback(), _lean(), cleared_if_it_fails(place):
            context: Any = ray.init(
                address="local",
                namespace=namespace,
                logging_level=logging.ERROR,
                include_dashboard=False,
                num_cpus=num_cpus,
                object_store_memory=object_store_bytes,
                _node_ip_address=_LOOPBACK,
                _temp_dir=directory,
            )
    except TypeError:
        raise  # not called as it wants to be
    except Exception as error:  # Ray raises all kinds, Exception itself among them
        ray.shutdown()
        kind = BadInput if isinstance(error, ValueError) else NoCluster
        raise kind(
            f"Wanted to start Ray on this machine, but {first_line(error).rstrip('.')}. It "
            f"needs {object_store_bytes or 'some'} bytes of shared memory "
            "(--runtime.object-store-bytes where there is that option), free ports, room in /tmp "
            "or RAY_TMPDIR, and a processor on which it comes up within 30 s"
        ) from error
    return Path(context.address_info["session_dir"])


@contextmanager
def _on_loopback() -> Generator[None]:
    """Lets Ray take a loopback address as it is, as it does on Windows and macOS.

    Elsewhere it makes the machine's outward address of it, and all of its processes listen on
    every interface.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _lean() -> Generator[None]:
    """Leaves Ray's autoscaler and usage statistics out of a cluster that starts in the block.

    A cluster of one machine has no use for them, Ray has no option against them, and waits for the
    second before it starts the rest.
    """
    with ExitStack() as stack:
        for name, instead in (("start_monitor", _nothing), ("start_api_server", _nobody_to_tell)):
            if hasattr(Node, name):  # another version of Ray may start them elsewhere
                stack.callback(setattr, Node, name, getattr(Node, name))
                setattr(Node, name, instead)
        yield


def _nothing(_node: Any, **_options: Any) -> None:
    """Stands for the autoscaler's start."""


def _nobody_to_tell(node: Any, **_options: Any) -> None:
    """Stands for the API server's start; says where it would be, which Ray's agent waits for.

    Without a dashboard it takes none of what the agent tells it, either.
    """
    node.get_gcs_client().internal_kv_put(
        ray_constants.DASHBOARD_ADDRESS.encode(),
        f"{_LOOPBACK}:0".encode(),
        True,
        ray_constants.KV_NAMESPACE_DASHBOARD,
    )


def _ray_directory() -> str | None:
    """Where Ray keeps its sockets where TMPDIR is too long for them; None for its own choice."""
    directory = os.environ.get("TMPDIR", "")
    is_short = len(directory + _SOCKET) <= _LONGEST_SOCKET
    return None if "RAY_TMPDIR" in os.environ or is_short else "/tmp/ray"  # noqa: S108


def _shut_down() -> None:
    """Leaves the cluster; one of this process's own ends, with all that its raylet started.

    Ray would send each of its processes SIGTERM first and give it a second, which is lost on those
    that do not hear it. Nothing of a run is in them any more.
    """
    node: Any = getattr(worker, "_global_node", None)  # None where it is somebody else's
    if node is not None:
        kill: Callable[..., None] = node.kill_all_processes

        def kill_at_once(**_options: bool) -> None:
            raylets: list[Any] = node.all_processes.get("raylet", [])
            left = [child for raylet in raylets for child in children_of(raylet.process.pid)]
            kill(check_alive=False)
            for child in left:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

        node.kill_all_processes = kill_at_once
    ray.shutdown()


def _join(address: str, namespace: str) -> None:
    """Connects to a cluster."""
    require_address(address)
    found = address
    try:
        found = _address_here() if address == AUTO else address
        is_of_this_machine_alone = _require_listener(found)
        with _on_loopback() if is_of_this_machine_alone else nullcontext():
            ray.init(address=found, namespace=namespace, logging_level=logging.ERROR)
    except (OSError, RuntimeError, UnicodeError, RayError) as error:  # UnicodeError: of a host
        by = "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS", AUTO) == found else "`ray start`"
        where = address if found == address else f"{address}, which is {found} by {by}"
        raise NoCluster(
            f"Wanted to join the Ray cluster at {where}, but {first_line(error)}. This machine "
            "has to be a node of it, with its token in RAY_AUTH_TOKEN or ~/.ray/auth_token; if it "
            "is just starting or ending, try again"
        ) from error


def _address_here() -> str:
    """Returns the address of the cluster that this user named, by RAY_ADDRESS or `ray start`.

    Ray itself would search the machine's processes, and find clusters of other users and those
    that end with a run.

    Raises:
        FileNotFoundError: there is none. PermissionError: another user named it.
        BadInput: RAY_ADDRESS is no address, or the file that `ray start` wrote holds none.
    """
    named = os.environ.get("RAY_ADDRESS") or AUTO
    require_address(named, "RAY_ADDRESS")
    if named != AUTO:
        return named
    note = Path(ray_files.get_ray_address_file(None))
    if not note.is_file():
        raise FileNotFoundError(
            "`ray start` made or joined none on this machine; name it by HOST:PORT"
        )
    if note.stat().st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{note} is another user's; name it by HOST:PORT")
    address = note.read_text(errors="replace").strip()
    if address == AUTO:
        raise FileNotFoundError(f"{note} names no address; name it by HOST:PORT")
    require_address(address, str(note))
    return address


def _require_own_packages() -> None:
    """Refuses a package in the working directory that would hide one of this program's own.

    Ray's processes search the directory in which the command was given before all others.
    """
    here = Path.cwd()
    for name in OWN_PACKAGES:
        found = PathFinder.find_spec(name, [str(here)])
        own = sys.modules[name].__file__
        if found is not None and found.origin is not None and found.origin != own:
            raise BadInput(
                f"{here} holds a package {name!r}, which Ray's processes would take for dreamer's "
                "own of that name; start from another directory, or rename it"
            )


def _require_listener(address: str) -> bool:
    """Returns whether a loopback address is all that the cluster at HOST:PORT listens on.

    Raises:
        OSError: nothing listens there, which Ray would try for minutes.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    _connect(host, port)
    if host not in _LOOPBACKS:
        return False
    try:
        _connect(ray_services.get_node_ip_address(), port)
    except OSError:
        return True
    return False


def _connect(host: str, port: str) -> None:
    socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
