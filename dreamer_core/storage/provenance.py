"""Which programs wrote a run directory: version, commit and libraries, in its versions.json.

    {"format": 2,                          of the run directory; RUN_FORMATS has what each is
     "programs": [{"since": "2026-01-01T00:00:00+00:00", "version": "0.1.0", "commit": "fbd52...",
                   "python": "3.12.1", "libraries": {"torch": "2.13.0", ...},
                   "new_settings": {...}}, ...]}    the newest last; see `stamp`

A directory without the file is of format 1: its program did not say.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, cast

from dreamer_core.files import write_json

RUN_FORMATS = {
    1: "runs that do not say which program wrote them",
    2: "versions.json",
}
"""What is new in each format of run directories; this program reads all of them."""
RUN_FORMAT = max(RUN_FORMATS)
"""That this program writes."""
VERSIONS_FILE = "versions.json"
"""Its name in the run directory."""
_PACKAGE = "dreamerv2-service"
_LIBRARIES = ("torch", "numpy", "ray", "gymnasium", "ale-py", "opencv-python-headless")
_COMMIT = "DREAMER_COMMIT"
_GIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """A dreamer and what it computes with; None or absent for what is not known."""

    version: str | None
    commit: str | None
    """Of git; ends with `-dirty` where files were changed since."""
    python: str
    libraries: Mapping[str, str]
    """Those that are installed, with their versions."""


@functools.cache
def program() -> Program:
    """Returns what this program is."""
    libraries = {name: found for name in _LIBRARIES if (found := _installed(name))}
    return Program(_installed(_PACKAGE), _commit(), platform.python_version(), libraries)


def program_name(version: str | None, commit: str | None) -> str:
    """Returns `dreamer 0.1.0 (commit fbd5243)` for messages."""
    return f"dreamer {version or 'of unknown version'} (commit {short(commit)})"


def short(commit: str | None) -> str:
    """Returns a commit as people write it."""
    if commit is None:
        return "unknown"
    digits, *dirty = commit.split("-")
    return "-".join([digits[:12], *dirty])


@dataclass(frozen=True, slots=True)
class Versions:
    """What a run directory says of the programs that wrote it."""

    format: int
    programs: tuple[Mapping[str, Any], ...]
    """The newest last; see the module."""

    @property
    def is_newer(self) -> bool:
        """Whether it is of a format that this program does not know."""
        return self.format > RUN_FORMAT

    def words(self) -> str:
        """Returns which program wrote it last and which this is, as a sentence."""
        last = self.programs[-1] if self.programs else None
        return f"{writer(last)}. The run is of format {self.format}, this writes {RUN_FORMAT}"


def writer(last: Any) -> str:
    """Returns a sentence, but for its full stop: which program wrote something, and which this is.

    Args:
        last: version and commit by name, as a run or a checkpoint says them; None if it does not.
    """
    own = program()
    this = f"this is {program_name(own.version, own.commit)}"
    if not isinstance(last, Mapping):
        return f"It does not say which dreamer wrote it; {this}"
    said = cast("Mapping[str, Any]", last)
    return f"It was written by {program_name(said.get('version'), said.get('commit'))}; {this}"


def read_versions(path: Path) -> Versions:
    """Returns what versions.json says; format 1 where there is none or it cannot be understood."""
    with suppress(OSError, ValueError, RecursionError):
        match json.loads(path.read_bytes()):
            case {"format": int(number), "programs": [*programs]} if number > 0:
                of = [cast("dict[str, Any]", p) for p in programs if isinstance(p, dict)]
                return Versions(number, tuple(of))
            case _:
                pass
    return Versions(1, ())


def stamp(path: Path, new_settings: Mapping[str, Any]) -> list[str]:
    """Notes in versions.json that this program writes here from now on.

    Args:
        path: of the file.
        new_settings: settings that the run does not hold yet, with the values that it takes.

    Returns:
        Sentences for the log, none where the same program wrote here before.

    Raises:
        OSError: it cannot be written.
    """
    own, before = program(), read_versions(path)
    facts = {
        "version": own.version,
        "commit": own.commit,
        "python": own.python,
        "libraries": dict(own.libraries),
    }
    last = before.programs[-1] if before.programs else {}
    if before.format == RUN_FORMAT and not new_settings and facts.items() <= last.items():
        return []
    since = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"since": since, **facts, **({"new_settings": new_settings} if new_settings else {})}
    write_json(path, {"format": RUN_FORMAT, "programs": [*before.programs, entry]})
    told = [f"Written from now on by {program_name(own.version, own.commit)}"]
    if last:
        told[0] += f", before by {program_name(last.get('version'), last.get('commit'))}"
    if new_settings:
        values = ", ".join(f"{name}={value!r}" for name, value in new_settings.items())
        told.append(f"Settings that the run did not have before: {values}")
    return told


def _installed(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return installed_version(name)
    return None


def _commit() -> str | None:
    """What DREAMER_COMMIT says, or git where this is a checkout; None if nobody knows."""
    if said := os.environ.get(_COMMIT):
        return said
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(  # noqa: S603 (no word of it comes from outside)
            command, cwd=root, capture_output=True, text=True, timeout=_GIT_S, check=True
        )
        return found.stdout.strip() or None
    return None
