"""What ended runs leave in Ray's directory is removed, and nothing else."""

import os
import subprocess
import sys

import pytest

from dreamer_core.files import take_lock
from services.cluster.sessions import LOCK, own_session


def make(root, name):
    session = root / f"session_{name}"
    (session / "logs").mkdir(parents=True)
    (session / "logs" / "raylet.out").write_text("words")
    (session / "port").write_text("1")
    return session


def left(root):
    return sorted(path.name for path in root.iterdir())


def test_a_session_goes_with_its_cluster(tmp_path):
    own = make(tmp_path, "own")
    (tmp_path / "session_latest").symlink_to(own)
    with own_session(own):
        assert (own / LOCK).exists()
    assert left(tmp_path) == []


def test_a_session_of_a_failure_stays_until_the_next_command(tmp_path):
    failed, own = make(tmp_path, "failed"), make(tmp_path, "own")
    with pytest.raises(ZeroDivisionError), own_session(failed):
        raise ZeroDivisionError
    assert (failed / "logs" / "raylet.out").exists()
    with own_session(own):
        assert left(tmp_path) == ["session_own"]


def test_what_is_not_ours_or_not_over_is_left(tmp_path):
    make(tmp_path, "of_ray_start")
    (tmp_path / "session_latest").symlink_to(make(tmp_path, "of_ray_start_too"))
    running = make(tmp_path, "running")
    ending, of_another = make(tmp_path, "ending_24601"), make(tmp_path, "of_another_user")
    for session in (ending, of_another):
        (session / LOCK).touch()
    os.chown(of_another / LOCK, 12345, -1) if os.geteuid() == 0 else (of_another / LOCK).unlink()
    before = left(tmp_path)
    words = [sys.executable, "-c", "print(flush=True); input()", "session_ending_24601"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with take_lock(running / LOCK), subprocess.Popen(words, **pipes) as raylet:
        raylet.stdout.readline()  # its command line can be read by now
        with own_session(make(tmp_path, "own")):
            assert left(tmp_path) == sorted([*before, "session_own"])
        raylet.communicate(b"\n")
    with own_session(make(tmp_path, "own")):
        gone = {"session_ending_24601", "session_running"}
        assert {*left(tmp_path)} == {*before, "session_own"} - gone


def test_no_link_leads_out_of_a_session(tmp_path):
    ours = make(tmp_path, "precious")
    (ours / LOCK).touch()
    ours.rename(tmp_path / "precious")
    (tmp_path / "session_link").symlink_to(tmp_path / "precious")
    linked = make(tmp_path, "linked_lock")
    (linked / LOCK).symlink_to(tmp_path / "precious" / LOCK)
    ended = make(tmp_path, "ended")
    (ended / LOCK).touch()
    (ended / "logs" / "out").symlink_to(tmp_path / "precious")
    (ended / "sockets").symlink_to(tmp_path / "precious")
    with own_session(make(tmp_path, "own")):
        assert left(tmp_path) == ["precious", "session_link", "session_linked_lock", "session_own"]
    assert (tmp_path / "precious" / "logs" / "raylet.out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_left_though_the_lock_in_it_is_ours(tmp_path):
    foreign = make(tmp_path, "foreign")
    (foreign / LOCK).touch()
    os.chown(foreign, 12345, -1)
    with own_session(make(tmp_path, "own")):
        assert left(tmp_path) == ["session_foreign", "session_own"]
