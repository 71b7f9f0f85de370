"""Small file systems that a test can fill up, or make read-only."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

FILLER = "filler"


def require_root():
    """Skips the test where it may not mount."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")


@contextlib.contextmanager
def small_disk(path, megabytes):
    """A file system of its own at `path` while the block runs."""
    require_root()
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount, which this container lacks")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(disk):
    """Takes all the room that is left."""
    with (disk / FILLER).open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)):
                    pass


def make_room(disk):
    """Gives the room back."""
    (disk / FILLER).unlink()


def make_read_only(disk):
    """Refuses all writes from now on."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def make_writable(disk):
    """Takes writes again."""
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


class BreakableDisk:
    """An ext4 file system on a file, which the kernel can be told to find an error in."""

    def __init__(self, path, image):
        self.path = path
        self._image = image

    def mount(self):
        """Makes it usable."""
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.path)

    def fail(self):
        """From now on it is read-only, for those too who have files open for writing."""
        device = Path(_run("findmnt", "-n", "-o", "SOURCE", self.path)).name
        with contextlib.suppress(OSError):  # told that it is read-only now
            Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def mend(self):
        """Repairs and mounts it again, once nobody has a file open any more."""
        give_up_s = time.monotonic() + 60
        while subprocess.run(["umount", self.path], check=False, capture_output=True).returncode:
            assert time.monotonic() < give_up_s, f"{self.path} stays in use"
            time.sleep(0.1)
        _run("e2fsck", "-f", "-y", self._image, good=(0, 1))
        self.mount()


@contextlib.contextmanager
def breakable_disk(path, megabytes):
    """A file system at `path` that can fail while the block runs."""
    require_root()
    path.mkdir(parents=True)
    image = path.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    disk = BreakableDisk(path, image)
    try:
        _run("mke2fs", "-q", "-F", "-t", "ext4", image)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs e2fsprogs and loop devices: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", path], check=False)


def _run(*command, good=(0,)):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in good:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.strip()
