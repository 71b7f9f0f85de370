"""What of an error reaches the user: its kind, its words, its exit code."""

import errno
import pickle

import pytest

from dreamer_core.errors import (
    BadInput,
    DreamerError,
    Failed,
    StorageFailed,
    naming,
    refusing_other_kinds,
    remedy,
)


def over_a_path(error: BaseException, refusal: type[BadInput] = BadInput):
    with naming("write a poem to /dev/poem", "Name another place", refusal):
        raise error


def test_a_path_that_cannot_be_used_is_bad_input_with_what_to_do():
    with pytest.raises(BadInput) as caught:
        over_a_path(PermissionError(errno.EACCES, "Permission denied", "/dev/poem"))
    words = "Wanted to write a poem to /dev/poem, but Permission denied. Name another place"
    assert str(caught.value) == words and caught.value.exit_code == 2


def test_a_link_that_leads_nowhere_is_told_as_what_it_is(tmp_path):
    (tmp_path / "run").symlink_to("gone")
    with (
        pytest.raises(BadInput, match=r"but .*/run is a link that leads nowhere. Name another"),
        naming("write there", "Name another place"),
    ):
        (tmp_path / "run").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_what_was_asked_for(number):
    with pytest.raises(Failed, match="Wanted to write a poem") as caught:
        over_a_path(OSError(number, "No space left on device"))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOENT, "put it back"),
    ],
)
def test_what_is_to_be_done_about_a_place_depends_on_what_is_wrong_with_it(number, words):
    assert words in remedy(OSError(number, ""))


class Unwritten(BadInput):
    """Has a name of its own."""


def test_a_refusal_may_have_a_name_of_its_own_and_keeps_what_was_meant_already():
    with pytest.raises(Unwritten):
        over_a_path(IsADirectoryError(errno.EISDIR, "Is a directory"), Unwritten)
    with pytest.raises(StorageFailed, match="meant"):
        over_a_path(StorageFailed(errno.EIO, "meant", "/dev/poem"), Unwritten)


@pytest.mark.parametrize("bug", [ValueError("shapes differ"), KeyError("image")])
def test_what_is_no_error_of_the_system_stays_what_it_is(bug):
    with pytest.raises(type(bug)) as caught:
        over_a_path(bug)
    assert caught.value is bug and not isinstance(bug, DreamerError)


def test_a_failure_of_storage_keeps_its_number_on_the_way_to_another_process():
    error = StorageFailed(errno.ENOSPC, "storing a chunk failed", "/runs/pong")
    arrived = pickle.loads(pickle.dumps(error))
    assert isinstance(arrived, Failed) and isinstance(arrived, OSError)
    assert arrived.errno == errno.ENOSPC and str(arrived) == str(error)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EISDIR, errno.ENOTDIR])
def test_what_is_of_another_kind_than_it_should_be_is_bad_input_with_its_path(number):
    with (
        pytest.raises(BadInput, match="Wanted to open run, but run/replay: Is another"),
        refusing_other_kinds("run"),
    ):
        raise OSError(number, "Is another", "run/replay")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ValueError("shapes differ")])
def test_other_errors_of_a_place_pass(error):
    with pytest.raises(type(error)) as caught, refusing_other_kinds("run"):
        raise error
    assert caught.value is error
