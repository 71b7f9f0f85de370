"""What is known of a checkpoint before its tensors are read, as JSON that carries its own hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dreamer_core.errors import BadInput
from dreamer_core.storage.provenance import writer

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
"""Name of its file."""
Form = Literal["pt", "safetensors"]
"""How a file of tensors is written, and the end of its name; see blob.py."""
FORMS = "(?:pt|safetensors)"
"""The same as a regular expression."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Damaged(Exception):
    """This checkpoint cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a checkpoint before its tensors are read."""

    step: int
    """Gradient steps taken when it was saved."""
    index: int
    """Which checkpoint of its run this is, from 1 on."""
    wall_time_s: float
    """When it was saved, in seconds since 1970."""
    facts: dict[str, Any]
    """Counters, config and versions, as given to `save`."""
    blob_bytes: int
    """Size of the tensors' file."""
    blob_sha256: str
    """Its hash, in hexadecimal digits."""
    form: Form = "pt"
    """How it is written."""

    @property
    def blob(self) -> str:
        """Name of the tensors' file."""
        return name_of(self.step, f"tensors-{self.blob_sha256[:16]}.{self.form}")

    def encode(self) -> bytes:
        """Returns it as JSON that carries its own hash."""
        body = {"format_version": FORMAT_VERSION, "blob": self.blob, **dataclasses.asdict(self)}
        return json.dumps({**body, "sha256": _hash_of(body)}, indent=2).encode()

    @classmethod
    def decode(cls, content: bytes, step: int, location: str) -> Manifest:
        """Reads what `encode` returned.

        Args:
            content: of the file.
            step: whose manifest it should be.
            location: of the checkpoint, for words.

        Raises:
            Damaged: it is something else, or of another step.
            BadInput: it is of another format version.
        """
        body = _body_of(content)
        match body:
            case {"format_version": int(version)} if version != FORMAT_VERSION:
                wrote = writer(dict(body.get("facts", {})).get("program"))
                raise BadInput(
                    f"{location} is of checkpoint format {version}, wanted {FORMAT_VERSION}; load "
                    f"it with the version that wrote it. {wrote}"
                )
            case {
                "format_version": int(),
                "step": int(found),
                "index": int(index),
                "wall_time_s": float(wall_time_s),
                "facts": dict(facts),
                "blob_bytes": int(size),
                "blob_sha256": str(sha256),
            } if _SHA256.fullmatch(sha256) and body.get("form", "pt") in ("pt", "safetensors"):
                if found != step:
                    raise Damaged(f"{MANIFEST} is of step {found}, wanted {step}")
                form: Form = body.get("form", "pt")  # older ones do not say
                return cls(step, index, wall_time_s, facts, size, sha256, form)
            case _:
                raise Damaged(f"{MANIFEST} holds something else than a manifest")


def name_of(step: int, file: str) -> str:
    """Name of a file of a checkpoint in its store."""
    return f"{step:012d}/{file}"


def _body_of(content: bytes) -> dict[str, Any]:
    """Returns a manifest without its own hash, which was right."""
    try:
        body = json.loads(content)
        is_whole = body.pop("sha256") == _hash_of(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{MANIFEST} cannot be read ({error})") from error
    if not is_whole:
        raise Damaged(f"{MANIFEST} does not match its own hash")
    return body


def _hash_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own `sha256`."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
