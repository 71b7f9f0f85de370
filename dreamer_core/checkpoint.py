"""Checkpoints: saved whole or not at all, loaded only if every byte is as it was written.

    checkpoints/
        LATEST                     the step to resume from, in digits
        000000012000/
            manifest.json          format version, facts, SHA-256 of each blob and of itself
            tensors.pt             torch.save of nested dictionaries, read with weights_only=True

A step is written under a temporary name (blob, then manifest), renamed to its own, and only then
named by LATEST; each file is flushed to the disk before it is renamed. A crash at any point
leaves the checkpoint before it in force. Loading changes nothing, so that evaluators may load
while the learner saves.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
_BLOB, _MANIFEST, _LATEST = "tensors.pt", "manifest.json", "LATEST"
_TEMPORARY, _REPLACED = ".temporary-", ".replaced-"
_PLAIN_TYPES = (int, float, bool, str, type(None))


class CheckpointCorrupt(RuntimeError):
    """No checkpoint that was asked for could be read; the message names each with its damage."""


class _Damaged(Exception):
    """This checkpoint cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint."""

    step: int
    """Gradient steps taken when it was saved."""
    tensors: dict[str, Any]
    """Nested dictionaries of tensors, on the CPU."""
    facts: dict[str, Any]
    """Counters, config and versions, as given to `save`."""
    path: Path
    """Its directory."""


def save(
    directory: Path, *, step: int, tensors: Mapping[str, Any], facts: Mapping[str, Any], keep: int
) -> Path:
    """Saves a checkpoint atomically and deletes old ones.

    Saving a step again replaces it, or leaves it alone if it is the same. After a return to an
    earlier step, later ones are of an abandoned future: they are the first to be deleted.

    Args:
        directory: made if missing.
        step: gradient steps taken.
        tensors: nested dictionaries and lists of tensors and plain numbers.
        facts: whatever JSON can hold.
        keep: checkpoints kept, the new one included.

    Returns:
        The checkpoint's directory.

    Raises:
        ValueError: step or keep is out of range. TypeError: a value that could be saved but not
            loaded safely.
        OSError: it could not be written; earlier checkpoints are untouched.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step={step} must be 0 or more and keep={keep} 1 or more")
    _require_loadable(tensors, "tensors")
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    blob = buffer.getvalue()
    manifest = _encode_manifest(step, blob, facts)
    path = directory / f"{step:012d}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _clean_up(directory)
        if not _holds(path, manifest):
            _write_step(path, blob, manifest)
        _write(directory / f"{_TEMPORARY}{_LATEST}", str(step).encode())
        (directory / f"{_TEMPORARY}{_LATEST}").replace(directory / _LATEST)
        _flush_directory(directory)
        for old in _ranked_steps(directory, step)[keep:]:
            shutil.rmtree(directory / f"{old:012d}")
    except OSError as error:
        raise OSError(
            error.errno,
            f"saving checkpoint {step} failed: {error.strerror}; free disk space or make the "
            "directory writable: the run resumes from the newest checkpoint that was completed",
            str(path),
        ) from error
    return path


def load(directory: Path, step: int | None = None) -> Checkpoint | None:
    """Loads the checkpoint that LATEST names, or the given step; None if there is none at all.

    A damaged one is logged by name and the one before it is used, unless a step was asked for.
    Nothing is unpickled but tensors and plain containers (`weights_only=True`).

    Raises:
        FileNotFoundError: the step asked for was never saved or was deleted.
        CheckpointCorrupt: each candidate is damaged.
        ValueError: it was written in another format version.
    """
    steps = _ranked_steps(directory, _read_latest(directory))
    if step is not None:
        if step not in steps:
            raise FileNotFoundError(f"no checkpoint {step} in {directory}; there are {steps}")
        steps = [step]
    damages: list[str] = []
    for candidate in steps:
        path = _path_of(directory, candidate)
        try:
            return _read_step(path, candidate)
        except (_Damaged, OSError) as damage:
            _log.warning("checkpoint %s is damaged: %s", path, damage)
            damages.append(f"{path}: {damage}")
    if damages:
        raise CheckpointCorrupt(
            "no checkpoint could be read; restore one from a copy, or start in another "
            "directory: " + "; ".join(damages)
        )
    return None


def _require_loadable(value: object, where: str) -> None:
    """Raises TypeError for a leaf that `weights_only=True` would refuse to load."""
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[object, object], value).items():
            _require_loadable(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast(list[object], value)):
            _require_loadable(item, f"{where}[{index}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in _PLAIN_TYPES:
        raise TypeError(
            f"{where} is {type(value).__name__}, but a checkpoint takes tensors, plain numbers, "
            "strings and None; convert it"
        )


def _encode_manifest(step: int, blob: bytes, facts: Mapping[str, Any]) -> bytes:
    blobs = {_BLOB: {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}}
    body = {"format_version": FORMAT_VERSION, "step": step, "blobs": blobs, "facts": dict(facts)}
    body = json.loads(json.dumps(body))  # tuples become lists before they are hashed
    return json.dumps({**body, "sha256": _hash_of(body)}, indent=2).encode()


def _hash_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own `sha256`."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path, step: int) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_bytes())
        is_whole = manifest.pop("sha256") == _hash_of(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"{_MANIFEST} cannot be read ({error})") from error
    if not is_whole:
        raise _Damaged(f"{_MANIFEST} does not match its own hash")
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of checkpoint format {manifest['format_version']}, wanted "
            f"{FORMAT_VERSION}; load it with the version that wrote it"
        )
    if manifest["step"] != step:
        raise _Damaged(f"{_MANIFEST} is of step {manifest['step']}, wanted {step}")
    return manifest


def _read_blob(path: Path, manifest: Mapping[str, Any]) -> bytes:
    blob, wanted = (path / _BLOB).read_bytes(), manifest["blobs"][_BLOB]
    if len(blob) != wanted["bytes"]:
        raise _Damaged(f"{_BLOB} has {len(blob)} bytes, wanted {wanted['bytes']}")
    if hashlib.sha256(blob).hexdigest() != wanted["sha256"]:
        raise _Damaged(f"{_BLOB} does not match its hash")
    return blob


def _read_step(path: Path, step: int) -> Checkpoint:
    manifest = _read_manifest(path, step)
    blob = io.BytesIO(_read_blob(path, manifest))
    tensors = torch.load(blob, weights_only=True, map_location="cpu")
    return Checkpoint(step=step, tensors=tensors, facts=manifest["facts"], path=path)


def _holds(path: Path, manifest: bytes) -> bool:
    """Whether this very checkpoint is there already, undamaged."""
    try:
        found = (path / _MANIFEST).read_bytes()
        _read_blob(path, json.loads(found))
    except (_Damaged, OSError, ValueError, KeyError, TypeError):
        return False
    return found == manifest


def _write_step(path: Path, blob: bytes, manifest: bytes) -> None:
    """Writes a step under a temporary name, then gives it its own."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        temporary.mkdir()
        _write(temporary / _BLOB, blob)
        _write(temporary / _MANIFEST, manifest)
        _flush_directory(temporary)
        if path.exists():
            path.rename(path.with_name(f"{_REPLACED}{path.name}"))
        temporary.rename(path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_directory(path.parent)
    shutil.rmtree(path.with_name(f"{_REPLACED}{path.name}"), ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    """Writes a file and flushes it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    """Flushes the names in a directory, so that a rename survives a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _clean_up(directory: Path) -> None:
    """Removes what an interrupted save left, and puts a step back that it had moved away."""
    for replaced in directory.glob(f"{_REPLACED}*"):
        path = replaced.with_name(replaced.name.removeprefix(_REPLACED))
        if path.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(path)
    for temporary in directory.glob(f"{_TEMPORARY}*"):
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink()


def _path_of(directory: Path, step: int) -> Path:
    """The directory of a step, even if a save was interrupted while replacing it."""
    path = directory / f"{step:012d}"
    replaced = path.with_name(f"{_REPLACED}{path.name}")
    return replaced if replaced.exists() and not path.exists() else path


def _read_latest(directory: Path) -> int | None:
    """The step that LATEST names; None if there is no such file or it is damaged."""
    try:
        return int((directory / _LATEST).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        _log.warning("%s holds no step; the newest checkpoint counts", directory / _LATEST)
        return None


def _ranked_steps(directory: Path, latest: int | None) -> list[int]:
    """All steps: LATEST, those before it from new to old, then later ones."""
    pattern = re.compile(rf"(?:{re.escape(_REPLACED)})?(\d{{12}})")
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    steps = {int(match[1]) for name in names if (match := pattern.fullmatch(name))}
    if latest is not None and latest not in steps:
        _log.warning("%s names checkpoint %d, which is missing", directory / _LATEST, latest)
    limit = max(steps, default=0) if latest is None else latest
    return sorted(steps, key=lambda step: (step <= limit, step), reverse=True)
