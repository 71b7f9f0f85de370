"""What was found so far: a file for each part, with hardware, versions, commit and settings."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from dreamer_core.files import write_json

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("dreamer_core", "benchmarks")


def code() -> str:
    """A fingerprint of the code that is measured; a commit does not tell one dirty tree's."""
    paths = sorted(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


class Results:
    """What one part has found.

    Args:
        path: of its file.
        settings: that it depends on.
        fingerprint: of the code; None where results outlive it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], fingerprint: str | None) -> None:
        self._path = path
        self._of = {"code": fingerprint, "settings": settings}
        before = json.loads(path.read_text()) if path.exists() else {}
        is_same = all(before.get(key) == value for key, value in self._of.items())
        self._found: dict[str, Any] = before if is_same else dict(self._of)

    def of(self, name: str) -> dict[str, Any] | None:
        """A result, if it is there."""
        return self._found.get(name)

    def keep(self, name: str, result: dict[str, Any], machine: dict[str, Any] | None) -> None:
        """Takes a result, and writes all there are; those of another machine are dropped.

        Args:
            name: of the result.
            result: what was found.
            machine: where; None if that could not be told.
        """
        here = self._found.get("hardware")
        if machine is not None and here not in (None, machine["hardware"]):
            self._found = dict(self._of)
        self._found |= {**(machine or {}), name: result}
        write_json(self._path, self._found)
        sys.stdout.write(f"{self._path.stem}, {name}: {json.dumps(result)[:400]}\n")
        sys.stdout.flush()

    def has_passed(self) -> bool:
        """Whether no check says that it failed."""
        return has_passed(self._found)


def has_passed(found: Any) -> bool:
    """Whether no check anywhere inside says that it failed."""
    if isinstance(found, dict):
        return found.get("passed", True) and all(has_passed(value) for value in found.values())
    return True
