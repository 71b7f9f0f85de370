"""Stores: whole files by name in a directory, in memory:// and on an S3-compatible server.

And what a run meets there: servers that refuse, are gone or keep silent. More of directories is in
test_local_store.py.
"""

import os
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from dreamer_core.config import CheckpointConfig
from dreamer_core.errors import BadInput
from dreamer_core.storage.checkpoint import load
from dreamer_core.storage.store import (
    LocalStore,
    StoreUnavailable,
    UrlStore,
    open_store,
    require_writable,
)
from tests.core.storage.saved_steps import blob_of, flip, is_step, save_steps, steps_in

NAME = "000000000001/manifest.json"


@pytest.fixture(scope="module")
def s3_endpoint():
    """URL of an S3-compatible server on loopback with the bucket `bucket`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    put(f"{endpoint}/bucket")
    yield endpoint
    server.stop()


def put(url, content=b""):
    urllib.request.urlopen(urllib.request.Request(url, content, method="PUT")).close()


@pytest.fixture
def use_s3(monkeypatch):
    """Directs s3:// to an endpoint, as an operator would by the environment."""
    import s3fs

    def use(endpoint):
        s3fs.S3FileSystem.clear_instance_cache()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, os.devnull)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

    yield use
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(s3_endpoint, use_s3):
    use_s3(s3_endpoint)
    return s3_endpoint


@pytest.fixture(params=["local", "memory", "s3", "directories by URL"])
def place(request, tmp_path):
    """A configured place; the last is a file system with directories, such as SFTP's."""
    match request.param:
        case "local":
            return LocalStore(tmp_path / "runs" / "checkpoints")
        case "s3":
            request.getfixturevalue("s3")
            return UrlStore(f"s3://bucket/{tmp_path.name}", request_timeout_s=30)
        case "memory":
            return UrlStore(f"memory://{tmp_path}", request_timeout_s=30)
        case _:
            return UrlStore(f"file://{tmp_path}/checkpoints", request_timeout_s=30)


# One store like another


def test_a_file_is_written_read_replaced_listed_and_deleted(place):
    assert place.names() == []
    place.write("LATEST", b"1")
    place.write(NAME, b"first")
    place.write(NAME, b"second")
    assert sorted(place.names()) == [NAME, "LATEST"]
    assert place.read(NAME) == b"second"
    place.delete(NAME)
    place.delete(NAME)
    assert place.names() == ["LATEST"]
    with pytest.raises(FileNotFoundError):
        place.read(NAME)


def test_what_another_process_puts_on_a_server_is_seen_at_once(s3):
    store = UrlStore("s3://bucket/other", request_timeout_s=30)
    store.write("LATEST", b"1")
    assert store.names() == ["LATEST"]
    put(f"{s3}/bucket/other/{NAME}")
    assert sorted(store.names()) == [NAME, "LATEST"]


def test_checkpoints_are_saved_kept_damaged_mended_and_loaded(place):
    save_steps(place, 1, 2, 3, 4, 5, keep=2, keep_every=3)
    assert steps_in(place) == [3, 4, 5] and is_step(load(place), 5)
    flip(place, blob_of(place, 5), 60)
    assert is_step(load(place), 4)
    save_steps(place, 5)
    assert is_step(load(place), 5) and is_step(load(place, step=3), 3)


# Which place


@pytest.mark.parametrize("url", [None, "{0}/there", "file://{0}/there", "local://{0}/there"])
def test_a_path_is_a_directory_of_this_machine_and_none_is_the_runs_own(tmp_path, url):
    config = CheckpointConfig(url=url and url.format(tmp_path))
    store = open_store(config, tmp_path / "there")
    assert isinstance(store, LocalStore) and store.location == str(tmp_path / "there")


def test_a_url_is_opened_with_the_configured_limit():
    store = open_store(CheckpointConfig(url="memory://run/", request_timeout_s=7), Path("unused"))
    assert isinstance(store, UrlStore) and store.location == "memory://run"
    assert store._timeout_s == 7


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "absolute path or a URL"),
        ("checkpoints", "absolute path or a URL"),
        ("file://checkpoints", "absolute path or a URL"),
        ("nowhere://bucket/run", "Protocol not known"),
        ("gs://bucket/run", "gcsfs"),
    ],
)
def test_what_is_no_place_or_lacks_its_package_is_refused_with_what_to_do(url, words):
    with pytest.raises(ValueError, match=words) as caught:
        open_store(CheckpointConfig(url=url), Path())
    assert f"checkpoint.url={url!r}" in str(caught.value) and "s3://" in str(caught.value)


def test_trying_a_place_leaves_nothing_there(s3, tmp_path):
    for url in (f"memory://{tmp_path}", f"s3://bucket/{tmp_path.name}/new", f"{tmp_path}/new"):
        store = open_store(CheckpointConfig(url=url), Path())
        require_writable(store)
        assert store.names() == []


def test_a_path_that_cannot_be_written_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"Not a directory\. Make room") as caught:
        require_writable(LocalStore(tmp_path / "file" / "below"))
    assert f"to {tmp_path}/file/below, but" in str(caught.value)


def test_a_directory_that_cannot_be_listed_is_no_empty_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"open .*/file, but .*/file: Not a dir"):
        load(LocalStore(tmp_path / "file"))


# Servers that do not do their part


def refused(url, *words, request_timeout_s=30.0):
    """The place must be refused as it is tried, with these words; returns the seconds it took."""
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="Wanted to write ") as caught:
        require_writable(UrlStore(url, request_timeout_s=request_timeout_s))
    message = str(caught.value)
    for word in (*words, url, "checkpoint.url", "credentials"):
        assert word in message, message
    return time.monotonic() - began_s


def test_a_bucket_that_is_not_there_is_refused_and_not_made(s3):
    refused("s3://bukket/run", "there is no such place")
    with pytest.raises(FileNotFoundError):
        UrlStore("s3://bukket/run", request_timeout_s=30).read("LATEST")


def test_credentials_that_the_server_rejects_are_refused_when_writing_and_reading(s3):
    store = UrlStore("s3://bucket/forbidden", request_timeout_s=30)
    save_steps(store, 1)
    authenticate_after(s3, "0")
    try:
        refused("s3://bucket/forbidden", "PermissionError")
        for use in (load, lambda store: save_steps(store, 2)):
            with pytest.raises(StoreUnavailable, match="PermissionError"):
                use(store)
    finally:
        authenticate_after(s3, "inf")
    assert is_step(load(store), 1)


def authenticate_after(endpoint, requests):
    """Makes moto check credentials once it has answered so many requests."""
    url, kind = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(url, requests.encode(), kind)).close()


@pytest.fixture
def silent_server():
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_keeps_silent_is_given_up_at_the_time_limit(use_s3, silent_server):
    use_s3(silent_server)
    seconds = refused(
        "s3://bucket/run", "did not answer within 0.5 s", "request_timeout_s", request_timeout_s=0.5
    )
    assert seconds < 60


def test_a_server_that_is_gone_is_refused_before_the_time_limit(use_s3, monkeypatch):
    use_s3("http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert refused("s3://bucket/run", "EndpointConnectionError", request_timeout_s=60) < 60


def test_a_server_that_goes_away_after_a_save_is_not_taken_for_damage(use_s3, s3, silent_server):
    store = UrlStore("s3://bucket/away", request_timeout_s=30)
    save_steps(store, 1)
    use_s3(silent_server)
    with pytest.raises(StoreUnavailable, match="Wanted to list s3://bucket/away, but it did not"):
        load(UrlStore("s3://bucket/away", request_timeout_s=0.5))
