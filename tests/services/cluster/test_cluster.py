"""The token that guards a cluster."""

import logging
import os

import pytest

from services.cluster import connection as cluster
from services.cluster.connection import keep_token_private


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


def test_a_cluster_without_a_token_is_warned_of(token, monkeypatch, caplog):
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    for mode_of_ray, words in (("token", []), ("disabled", ["RAY_AUTH_MODE=disabled"])):
        monkeypatch.setenv("RAY_AUTH_MODE", mode_of_ray)
        joined = cluster.connected(None, namespace="run", object_store_bytes=1)
        with caplog.at_level(logging.WARNING), joined:
            pass
        assert [record.getMessage().split(":")[0] for record in caplog.records] == words
