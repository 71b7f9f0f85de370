"""The token that guards a cluster."""

import errno
import logging
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayError

from dreamer_core.errors import BadInput
from services.cluster import connection as cluster
from services.cluster.auth_token import keep_token_private
from services.cluster.cluster_address import require_address
from services.cluster.connection import NoCluster
from services.cluster.sessions import LOCK
from tests.runs import ROOT


@pytest.fixture
def token(tmp_path, monkeypatch):
    """Where a token is looked for when nothing names one."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_token_is_drawn_for_its_owner_alone(token):
    keep_token_private()
    assert mode(token) == 0o600
    assert len(token.read_text()) == 64


def test_a_token_that_all_could_read_is_kept_and_made_private(token):
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    keep_token_private()
    assert (token.read_text(), mode(token)) == ("secret", 0o600)


@pytest.mark.parametrize("home", [None, "/proc/self"])
def test_without_a_home_the_token_lives_as_long_as_the_command(token, monkeypatch, home, caplog):
    del token
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # what is set meanwhile is undone
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", dict[int, str]().__getitem__)  # no such user
    else:
        monkeypatch.setenv("HOME", home)
    keep_token_private()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "nobody can attach" in caplog.text


def test_a_token_in_the_environment_needs_no_file(token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    keep_token_private()
    assert not token.exists()


def test_a_path_in_the_environment_counts(token, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "own"))
    keep_token_private()
    assert mode(tmp_path / "own") == 0o600 and not token.exists()


def test_an_empty_path_in_the_environment_names_no_file(token, monkeypatch, tmp_path):
    before = mode(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    monkeypatch.chdir(tmp_path)
    keep_token_private()
    assert mode(token) == 0o600 and mode(tmp_path) == before


def test_an_empty_token_in_the_environment_is_none(token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    keep_token_private()
    assert mode(token) == 0o600


def test_a_token_file_that_cannot_be_changed_is_used_as_it_is(
    joined, listening, token, monkeypatch
):
    keep_token_private()

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    join(listening)
    token.unlink()
    token.write_text("readable for all")
    join(listening)
    assert joined == [listening] * 2


@pytest.mark.parametrize("content", ["", "auto", "garbage", "\x00"])
def test_a_damaged_note_of_ray_start_is_told_of(joined, tmp_path, content):
    (tmp_path / "ray" / "ray_current_cluster").write_text(content)
    with pytest.raises((BadInput, NoCluster), match="HOST:PORT"):
        join("auto")
    assert joined == []


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"TMPDIR": "/tmp"}, None),
        ({"TMPDIR": "/scratch/" + 40 * "x"}, "/tmp/ray"),
        ({"TMPDIR": 90 * "x", "RAY_TMPDIR": "/ram"}, None),
    ],
)
def test_sockets_go_where_their_names_are_short_enough(monkeypatch, variables, wanted):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cluster._ray_directory() == wanted


def test_a_cluster_without_a_token_is_warned_of(token, monkeypatch, caplog, tmp_path):
    started = SimpleNamespace(address_info={"session_dir": str(tmp_path / "none")})
    monkeypatch.setattr(cluster.ray, "init", lambda **_: started)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    for mode_of_ray, words in (("token", []), ("disabled", ["RAY_AUTH_MODE=disabled"])):
        monkeypatch.setenv("RAY_AUTH_MODE", mode_of_ray)
        joined = cluster.connected(None, namespace="run", object_store_bytes=1)
        with caplog.at_level(logging.WARNING), joined:
            pass
        assert [record.getMessage().split(":")[0] for record in caplog.records] == words


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "head.of-it:1", "[::1]:65535", "auto"])
def test_an_address_is_host_and_port_or_that_of_this_machine(address):
    require_address(address)


@pytest.mark.parametrize(
    "address", ["", "head", ":1", "head:", "head:0", "a b:1", "::1:6379", "ray://head:1", "local"]
)
def test_what_is_no_address_is_refused_with_what_would_be(address):
    with pytest.raises(BadInput, match=rf"ray_address='{address}' must be HOST:PORT .* or auto "):
        require_address(address)


def join(address):
    with cluster.connected(address, namespace="run"):
        pass


@pytest.fixture
def joined(tmp_path, monkeypatch):
    """Addresses that Ray is asked to join, of a user who has named none yet."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    found = []
    monkeypatch.setattr(cluster.ray, "init", lambda address, **_: found.append(address))
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    return found


@pytest.fixture
def listening():
    """HOST:PORT at which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_auto_is_what_ray_start_or_the_environment_named(joined, listening, tmp_path, monkeypatch):
    (tmp_path / "ray" / "ray_current_cluster").write_text(listening)
    join("auto")
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", listening)
    join("auto")
    assert joined == [listening, listening]


def test_auto_is_no_cluster_that_nobody_named(joined):
    with pytest.raises(cluster.NoCluster, match="`ray start` made or joined none"):
        join("auto")
    assert not joined


@pytest.mark.parametrize("by", ["RAY_ADDRESS", "`ray start`"])
def test_auto_that_does_not_answer_is_told_with_its_address_and_who_named_it(
    joined, tmp_path, monkeypatch, by
):
    if by == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with pytest.raises(cluster.NoCluster, match=f"at auto, which is 127.0.0.1:1 by {by}, but"):
        join("auto")
    assert not joined


def test_auto_is_not_what_another_user_named(joined, listening, tmp_path, monkeypatch):
    (tmp_path / "ray" / "ray_current_cluster").write_text(listening)
    owner = (tmp_path / "ray" / "ray_current_cluster").stat().st_uid
    monkeypatch.setattr(cluster.os, "geteuid", lambda: owner + 2)
    if owner == 0:
        os.chown(tmp_path / "ray" / "ray_current_cluster", 1, -1)
    with pytest.raises(cluster.NoCluster, match="ray_current_cluster is another user's"):
        join("auto")
    assert not joined


def test_a_token_that_all_could_read_is_made_private_before_a_cluster_is_joined(
    joined, listening, token
):
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    join(listening)
    assert joined and mode(token) == 0o600


def test_an_address_in_the_environment_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head")
    with pytest.raises(BadInput, match="RAY_ADDRESS='head' must be HOST:PORT"):
        join("auto")


@pytest.mark.parametrize("host", ["no-such-host.invalid", 64 * "x"])
def test_a_host_that_has_no_address_is_no_cluster(host):
    with pytest.raises(cluster.NoCluster, match=host):
        join(f"{host}:6379")


@pytest.mark.parametrize("bug", [ValueError("num_cpus"), TypeError("no such option")])
def test_a_bug_in_joining_stays_one(listening, monkeypatch, bug):
    def fail(**_options):
        raise bug

    monkeypatch.setattr(cluster.ray, "init", fail)
    with pytest.raises(type(bug), match=str(bug)) as caught:
        join(listening)
    assert caught.value is bug


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The directory that a command is given in; Ray would be lost as soon as it is asked for."""

    def fail(**_options):
        raise RayError("reached")

    monkeypatch.setattr(cluster.ray, "init", fail)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", ["services/__init__.py", "dreamer_core/__init__.py"])
@pytest.mark.parametrize("address", [None, "auto"])
def test_a_foreign_package_that_would_hide_ours_from_rays_processes_is_refused(
    here, place, address
):
    (here / place).parent.mkdir()
    (here / place).write_text("")
    name = place.partition("/")[0]
    with pytest.raises(BadInput, match=f"{here} holds a package '{name}'.* rename it"):
        join(address)


def test_a_foreign_module_of_that_name_is_refused_too(here):
    (here / "services.py").write_text("")
    with pytest.raises(BadInput, match=r"holds a package 'services'"):
        join("auto")


@pytest.mark.parametrize("place", ["services", "my_package", "below/services"])
def test_what_hides_nothing_is_let_pass(here, listening, place):
    (here / place).mkdir(parents=True)  # without __init__.py it comes behind every package
    with pytest.raises(cluster.NoCluster, match="reached"):
        join(listening)


def test_the_directory_of_this_program_itself_is_let_pass(here, listening, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(cluster.NoCluster, match="reached"):
        join(listening)


def test_what_ray_leaves_of_a_start_that_failed_is_marked_to_be_cleared(
    token, tmp_path, monkeypatch
):
    def fail(**_options):
        (tmp_path / "ray" / f"session_late_{os.getpid()}").mkdir()
        (tmp_path / "ray" / "session_of_another_1").mkdir()
        raise RuntimeError("It timed out.")

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster.ray, "init", fail)
    (tmp_path / "ray" / f"session_early_{os.getpid()}").mkdir(parents=True)  # the number was free
    told = r"It timed out\. It needs some bytes"
    with pytest.raises(NoCluster, match=told), cluster.connected(None, namespace="run"):
        pass
    marked = [path.parent.name for path in (tmp_path / "ray").glob(f"*/{LOCK}")]
    assert marked == [f"session_late_{os.getpid()}"]


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_sigterm_while_ray_starts_is_told_apart_from_a_failure(token, monkeypatch, address):
    def end(*_arguments, **_options):  # as Ray's own handlers do
        raise SystemExit(15)

    monkeypatch.setattr(cluster.ray, "init", end)
    monkeypatch.setattr(cluster, "_join", end)
    with pytest.raises(SystemExit) as ended, cluster.connected(address, namespace="test"):
        pass
    assert ended.value.code == 143
