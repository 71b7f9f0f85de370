"""Where checkpoints lie: a directory of this machine, or any URL that fsspec knows.

Both are files by name behind four operations. What makes a checkpoint of them, and in which order
they are written, is checkpoint.py's matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

from dreamer_core.config import CheckpointConfig
from dreamer_core.errors import BadInput, StorageFailed, naming
from dreamer_core.files import make_directory, write_whole

T = TypeVar("T")

TEMPORARY = ".temporary-"
"""Begins the name of a file that is not whole yet."""


class StoreUnavailable(StorageFailed):
    """A URL cannot be reached, refuses access or keeps silent; says what to look at."""


class Store(Protocol):
    """Files by name, such as `000000012000/manifest.json`; one process writes, any may read."""

    @property
    def location(self) -> str:
        """Directory or URL, for messages."""
        ...

    def names(self) -> list[str]:
        """Names of all files, temporary ones too; none if the place does not exist yet."""
        ...

    def read(self, name: str) -> bytes:
        """Returns a file's content.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces a file, whole or not at all; once this returns, it lasts."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        ...


def open_store(config: CheckpointConfig, directory: Path) -> Store:
    """Opens the place of a run's checkpoints; nothing is read or written yet.

    Args:
        config: of the run's checkpoints.
        directory: is used if the config names no place.

    Raises:
        BadInput: the configured place is neither an absolute path nor a URL that can be opened.
        StoreUnavailable: the URL cannot be reached.
    """
    if config.url is None:
        return LocalStore(directory, is_in_run=True)
    import fsspec.core  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    protocol, path = fsspec.core.split_protocol(config.url)
    if protocol not in (None, "file", "local"):
        return UrlStore(config.url, request_timeout_s=config.request_timeout_s)
    if not path.startswith("/"):
        raise BadInput(
            f"checkpoint.url={config.url!r} must be an absolute path or a URL such as "
            "s3://bucket/run, so that it names the same place wherever the run is resumed"
        )
    return LocalStore(Path(path))


def require_writable(store: Store) -> None:
    """Writes a file and deletes it again.

    Raises:
        BadInput: the directory cannot be written. Failed: its disk is full.
        StoreUnavailable: the URL cannot be written.
    """
    to_do = "Make room, mend its permissions or name another place with --checkpoint.url"
    with naming(f"write checkpoints to {store.location}", to_do):
        store.write(f"{TEMPORARY}probe", b"")
        store.delete(f"{TEMPORARY}probe")


class LocalStore:
    """A directory, made when it is first written to; its files are written by files.py.

    Args:
        root: the directory.
        is_in_run: lies in a run directory, which is never made anew: one that is gone was renamed
            or removed under the run, and a checkpoint there would be none of it.
    """

    def __init__(self, root: Path, *, is_in_run: bool = False) -> None:
        self._root, self._is_in_run = root, is_in_run
        self.location = str(root)
        """Its path."""

    def names(self) -> list[str]:
        """See Store. Raises OSError if the directory is there and cannot be read."""
        found: list[str] = []
        try:
            entries = list(self._root.iterdir())
        except FileNotFoundError:
            return []
        for entry in entries:
            if not entry.is_dir():
                found.append(entry.name)
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found.extend(f"{entry.name}/{path.name}" for path in entry.iterdir())
        return found

    def read(self, name: str) -> bytes:
        """See Store."""
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See Store."""
        path = self._root / name
        if self._is_in_run:
            self._root.parent.stat()
        make_directory(path.parent)
        write_whole(path, content, path.with_name(f"{TEMPORARY}{path.name}"))

    def delete(self, name: str) -> None:
        """See Store. Takes the file's directory with it once that is empty."""
        path = self._root / name
        path.unlink(missing_ok=True)
        if path.parent != self._root:
            with contextlib.suppress(OSError):
                path.parent.rmdir()


class UrlStore:
    """Any file system that fsspec knows; every request ends within a time limit.

    Where a put is atomic, as in object stores, so is a write. Elsewhere (SFTP, for one) a crash can
    leave a file that is not whole, which its hash tells when it is read.

    Args:
        url: with the name of its protocol.
        request_timeout_s: longest wait for one request, a whole file included.

    Raises:
        BadInput: fsspec does not know the protocol, or lacks a package for it.
        StoreUnavailable: it cannot be reached.
    """

    def __init__(self, url: str, *, request_timeout_s: float) -> None:
        import fsspec.core  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

        self.location = url.rstrip("/")
        """The URL."""
        self._timeout_s = request_timeout_s
        try:
            self._files, root = self._ask("open", "", fsspec.core.url_to_fs, url)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, ImportError | ValueError):
                raise
            raise BadInput(
                f"checkpoint.url={url!r} cannot be opened: {error.__cause__}. Name an absolute "
                "path, or a URL of a file system that fsspec knows and whose package is installed "
                "(s3:// needs s3fs: `pip install -c constraints.txt -e '.[s3]'`)"
            ) from error
        self._root = root.rstrip("/")

    def names(self) -> list[str]:
        """See Store."""
        self._files.invalidate_cache()
        try:
            # `find` says nothing of a place that it may not read; `ls` raises.
            self._ask("list", "", self._files.ls, self._root, detail=False)
            paths = self._ask("list", "", self._files.find, self._root)
        except FileNotFoundError:
            return []
        return [path.removeprefix(f"{self._root}/") for path in paths]

    def read(self, name: str) -> bytes:
        """See Store."""
        return self._ask("read", name, self._files.cat_file, f"{self._root}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """See Store. Makes the URL's last directory if it must, but nothing above it."""
        path = f"{self._root}/{name}"
        try:
            try:
                self._ask("write", name, self._files.pipe_file, path, content)
            except FileNotFoundError:  # no object store, or no such bucket, which is not made
                self._ask("make", name, self._make_directories, path.rpartition("/")[0])
                self._ask("write", name, self._files.pipe_file, path, content)
        except FileNotFoundError as error:
            raise self._unavailable("write", name, f"there is no such place ({error})") from error

    def delete(self, name: str) -> None:
        """See Store."""
        with contextlib.suppress(FileNotFoundError):
            self._ask("delete", name, self._files.rm_file, f"{self._root}/{name}")

    def _make_directories(self, parent: str) -> None:
        for directory in (self._root, parent):
            if not self._files.exists(directory):
                self._files.mkdir(directory, create_parents=False)

    def _ask(
        self, what: str, name: str, function: Callable[..., T], *args: Any, **options: Any
    ) -> T:
        """Calls fsspec and waits no longer than the limit, whatever limits a backend has itself.

        Raises:
            FileNotFoundError: as the function does.
            StoreUnavailable: it raised anything else, or has not returned in time.
        """
        answer: Future[T] = Future()

        def call() -> None:
            try:
                answer.set_result(function(*args, **options))
            except Exception as error:  # noqa: BLE001 (raised below, where it is waited for)
                answer.set_exception(error)

        Thread(target=call, daemon=True).start()  # a pool would wait for it when the process ends
        try:
            return answer.result(self._timeout_s)
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if not answer.done():
                reason = f"it did not answer within {self._timeout_s:g} s"
            raise self._unavailable(what, name, reason) from error

    def _unavailable(self, what: str, name: str, reason: str) -> StoreUnavailable:
        place = f"{self.location}/{name}" if name else self.location
        return StoreUnavailable(
            f"Wanted to {what} {place}, but {reason}. Look at checkpoint.url, at its access rights "
            "and credentials and at the network; checkpoint.request_timeout_s is the longest wait "
            "for one request"
        )
