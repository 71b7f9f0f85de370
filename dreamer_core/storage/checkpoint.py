"""Checkpoints: saved whole or not at all, loaded only if every byte is as it was written.

    LATEST                             the step to resume from, in digits
    000000012000/
        tensors-61b9e5b2f6c8d2a0.pt    torch.save of nested dictionaries, named by its SHA-256;
                                       .safetensors of an agent that was handed on (blob.py)
        KEEP                           empty; a checkpoint that has it is never deleted
        manifest.json                  facts, size and SHA-256 of the tensors, SHA-256 of itself

A step is written in this order and then named by LATEST; each write is atomic by itself
(store.py). A crash at any point leaves the checkpoint before it in force, and a step
without a manifest is an unfinished save. Loading changes nothing, so that evaluators may load
while the learner saves.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamer_core.errors import BadInput, Failed, StorageFailed, refusing_other_kinds, remedy
from dreamer_core.storage.manifest import FORMS, MANIFEST, Damaged, Form, Manifest, name_of
from dreamer_core.storage.store import TEMPORARY, Store

_log = logging.getLogger(__name__)

_LATEST, _KEEP = "LATEST", "KEEP"
_OURS = re.compile(
    rf"(?P<step>\d{{12}})/(?P<temporary>{re.escape(TEMPORARY)})?"
    rf"(?P<file>{re.escape(MANIFEST)}|{_KEEP}|tensors-[0-9a-f]{{16}}\.{FORMS})",
    re.ASCII,
)
_DAMAGE = (errno.EIO, errno.ESTALE)  # a bad sector; a file deleted while it was read over NFS


class CheckpointCorrupt(Failed):
    """No checkpoint that was asked for could be read; the message names each with its damage."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint."""

    step: int
    """Gradient steps taken when it was saved."""
    tensors: dict[str, Any]
    """Nested dictionaries of tensors, on the CPU."""
    facts: dict[str, Any]
    """Counters, config and versions, as given to `save`."""
    location: str
    """Its directory or URL, for messages."""
    wall_time_s: float
    """When it was saved, in seconds since 1970."""


def save(
    store: Store,
    *,
    step: int,
    tensors: Mapping[str, Any],
    facts: Mapping[str, Any],
    keep: int,
    keep_every: int | None = None,
    form: Form = "pt",
) -> None:
    """Saves a checkpoint atomically, then deletes old ones.

    Saving a step again replaces it. After a return to an earlier step, later ones are of an
    abandoned future and are deleted too, unless they are marked to stay.

    Args:
        store: where to.
        step: gradient steps taken.
        tensors: nested dictionaries and lists of tensors and plain numbers.
        facts: whatever JSON can hold.
        keep: newest checkpoints kept, the new one included.
        keep_every: every n-th checkpoint of the run is marked to stay for good; None: none is.
        form: of the tensors' file.

    Raises:
        ValueError: step, keep or keep_every is out of range. TypeError: a value that could be
            saved but not loaded safely.
        StorageFailed: it could not be written; earlier checkpoints are untouched.
    """
    if step < 0 or keep < 1 or (keep_every is not None and keep_every < 1):
        raise ValueError(
            f"step={step} must be 0 or more, keep={keep} and keep_every={keep_every} 1 or more"
        )
    from dreamer_core.storage.blob import PACK  # noqa: PLC0415 (torch takes a second to import)

    blob = PACK[form](tensors)
    facts = json.loads(json.dumps(dict(facts)))  # tuples become lists before they are hashed
    try:
        names = store.names()
        steps = _steps(names)
        _delete_all_but(store, names, steps)  # what an interrupted save left must not fill the disk
        index = _next_index(store, steps, step)
        sha256 = hashlib.sha256(blob).hexdigest()
        manifest = Manifest(step, index, time.time(), dict(facts), len(blob), sha256, form)
        store.write(manifest.blob, blob)
        if keep_every is not None and index % keep_every == 0:
            store.write(name_of(step, _KEEP), b"")
        store.write(name_of(step, MANIFEST), manifest.encode())
        store.write(_LATEST, str(step).encode())
        names = store.names()
        past = [other for other in _steps(names) if other <= step]
        marked = [other for other in _steps(names) if name_of(other, _KEEP) in names]
        _delete_all_but(store, names, {*past[:keep], *marked})
    except StorageFailed:
        raise
    except OSError as error:
        raise StorageFailed(
            error.errno,
            f"saving checkpoint {step} failed: {error.strerror}; {remedy(error)}: the run resumes "
            "from the newest checkpoint that was completed",
            store.location,
        ) from error


def load(store: Store, step: int | None = None) -> Checkpoint | None:
    """Loads the checkpoint that LATEST names, or the given step; None if none was ever saved.

    A damaged one is logged by name and the one before it is used, unless a step was asked for.
    Nothing is unpickled but tensors and plain containers (`weights_only=True`).

    Raises:
        BadInput: the step asked for was never saved or was deleted, it was written in another
            format version, or the place is no directory.
        CheckpointCorrupt: each candidate is damaged, or all are gone though there is a LATEST.
        StorageFailed: the place cannot be read, which is no damage of a checkpoint.
    """
    with _told(store):
        return _load(store, step)


def _load(store: Store, step: int | None) -> Checkpoint | None:
    damages: dict[int, str] = {}
    while True:
        names = store.names()  # anew after each failure: the writer may have deleted that one
        steps = _ranked_steps(store, names)
        if step is not None:
            if step not in (*steps, *damages):
                raise BadInput(f"no checkpoint {step} in {store.location}; there are {steps}")
            steps = [step]
        candidate = next((other for other in steps if other not in damages), None)
        if candidate is None:
            break
        try:
            return _read_step(store, candidate)
        except Damaged as damage:
            location = _location(store, candidate)
            _log.warning("checkpoint %s is damaged: %s", location, damage)
            damages[candidate] = f"{location}: {damage}"
    if damages or _LATEST in names:
        reasons = list(damages.values()) or [f"{store.location} holds nothing but {_LATEST}"]
        raise CheckpointCorrupt(
            "no checkpoint could be read; restore one from a copy, or start in another "
            "directory: " + "; ".join(reasons)
        )
    return None


def newest(store: Store) -> Manifest | None:
    """Returns the manifest of the checkpoint that `load` tries first; None if none can be read.

    Raises:
        BadInput, StorageFailed: as in `load`.
    """
    with _told(store):
        for step in _ranked_steps(store, store.names()):
            with contextlib.suppress(Damaged):
                return _read_manifest(store, step)
    return None


def steps(store: Store) -> list[int]:
    """Returns the gradient steps of all checkpoints, from new to old.

    Raises:
        BadInput, StorageFailed: as in `load`.
    """
    with _told(store):
        return _steps(store.names())


@contextlib.contextmanager
def _told(store: Store) -> Generator[None]:
    """Raises StorageFailed where the store's directory cannot be read; BadInput: it is none."""
    try:
        with refusing_other_kinds(store.location):
            yield
    except StorageFailed:
        raise
    except OSError as error:
        raise StorageFailed(
            error.errno,
            f"reading checkpoints failed: {error.strerror}; mend the directory or its permissions",
            store.location,
        ) from error


def _location(store: Store, step: int) -> str:
    return f"{store.location}/{step:012d}"


def _steps(names: Collection[str]) -> list[int]:
    """All steps that have a manifest, from new to old."""
    matches = [match for name in names if (match := _OURS.fullmatch(name))]
    whole = {m["step"] for m in matches if m["file"] == MANIFEST and not m["temporary"]}
    return sorted(map(int, whole), reverse=True)


def _ranked_steps(store: Store, names: Collection[str]) -> list[int]:
    """All steps: LATEST, those before it from new to old, then later ones."""
    steps = _steps(names)
    if _LATEST not in names:
        return steps
    place = f"{store.location}/{_LATEST}"
    try:
        latest = int(_read(store, _LATEST))
    except (Damaged, ValueError):
        _log.warning("%s holds no step; the newest checkpoint counts", place)
        return steps
    if latest not in steps:
        _log.warning("%s names checkpoint %d, which is missing", place, latest)
    return sorted(steps, key=lambda step: (step <= latest, step), reverse=True)


def _next_index(store: Store, steps: list[int], step: int) -> int:
    """One more than the checkpoint before has; a step that is saved again keeps its own."""
    for before in steps:
        if before <= step:
            with contextlib.suppress(Damaged):
                return _read_manifest(store, before).index + (before < step)
    return 1


def _delete_all_but(store: Store, names: Collection[str], kept: Collection[int]) -> None:
    """Deletes every file of ours that no kept step needs, manifests first."""
    matches = [match for name in names if (match := _OURS.fullmatch(name))]
    needed: set[str] = set()
    for step in kept:
        files = {m[0] for m in matches if int(m["step"]) == step and not m["temporary"]}
        blobs = files - {name_of(step, MANIFEST), name_of(step, _KEEP)}
        if len(blobs) > 1:  # it was saved again
            with contextlib.suppress(Damaged):
                files -= blobs - {_read_manifest(store, step).blob}
        needed |= files
    for match in sorted(matches, key=lambda match: match["file"] != MANIFEST):
        if match[0] not in needed:
            store.delete(match[0])


def _read(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise Damaged(f"{name} is missing") from error
        if error.errno in _DAMAGE:
            raise Damaged(f"{name} cannot be read ({error.strerror})") from error
        raise


def _read_manifest(store: Store, step: int) -> Manifest:
    content = _read(store, name_of(step, MANIFEST))
    return Manifest.decode(content, step, _location(store, step))


def _read_step(store: Store, step: int) -> Checkpoint:
    from dreamer_core.storage.blob import UNPACK  # noqa: PLC0415 (torch takes a second to import)

    manifest = _read_manifest(store, step)
    blob = _read(store, manifest.blob)
    if len(blob) != manifest.blob_bytes:
        raise Damaged(f"{manifest.blob} has {len(blob)} bytes, wanted {manifest.blob_bytes}")
    if hashlib.sha256(blob).hexdigest() != manifest.blob_sha256:
        raise Damaged(f"{manifest.blob} does not match its hash")
    try:
        tensors = UNPACK[manifest.form](blob)
    except ValueError as error:
        raise Damaged(f"{manifest.blob} holds {error}") from error
    location = _location(store, step)
    return Checkpoint(step, tensors, manifest.facts, location, manifest.wall_time_s)
