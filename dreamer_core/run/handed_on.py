"""An agent handed on: a run directory that holds it alone, to be played, watched and begun from.

config.json      the run's config
checkpoints/     one checkpoint: world model, actor and critic as safetensors, no optimisers
metrics.jsonl    of the run's log what its curves need

It is read as any other run is; only to resume it is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput, StorageFailed, naming
from dreamer_core.fields import to_dict
from dreamer_core.files import make_directory, write_json, write_whole
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.run.restored import networks_in
from dreamer_core.storage import checkpoint
from dreamer_core.storage.checkpoint import Checkpoint
from dreamer_core.storage.identity import saved_config
from dreamer_core.storage.named import load_named, run_named
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.storage.store import LocalStore

_LINES_OF_A_SERVICE = 200


def hand_on(trained: str | Path, to: str | Path, *, step: int | None = None) -> Checkpoint:
    """Writes the agent of a checkpoint as a run directory of its own, and returns what it is.

    Args:
        trained: as in `load_named`.
        to: the directory; empty or not there yet.
        step: gradient steps of the checkpoint; None for the newest that is whole.

    Raises:
        BadInput: there is no such checkpoint, or the directory cannot be written or is not empty.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`. Failed: the disk is full.
    """
    found, to = load_named(trained, step), Path(to)
    config = _at_home(saved_config(found.facts, found.location))
    facts = {**found.facts, "config": to_dict(config), "replay": None}
    with naming(f"write the agent into {to}", "Name another directory with --to"):
        make_directory(to)
        if any(to.iterdir()):
            raise BadInput(f"--to {to}: wanted an empty directory, or one that is not there yet")
        log = run_named(trained) / METRICS_FILE
        if log.is_file():
            write_whole(to / METRICS_FILE, _thinned(log.read_bytes()))
        store = LocalStore(RunPaths(to).checkpoints)
        networks = networks_in(found)
        try:
            checkpoint.save(
                store, step=found.step, tensors=networks, facts=facts, keep=1, form="safetensors"
            )
        except StorageFailed as error:  # it speaks of a run that resumes, and here is none
            raise (error.__cause__ or error) from None
        write_json(RunPaths(to).config, to_dict(config))
    return dataclasses.replace(found, tensors=networks, facts=facts, location=str(to))


def _at_home(config: Config) -> Config:
    """The config with its checkpoints in the run directory."""
    return dataclasses.replace(config, checkpoint=dataclasses.replace(config.checkpoint, url=None))


def _thinned(log: bytes) -> bytes:
    """Returns of a log the lines with episodes, and of each service as many others as curves need.

    A line that is damaged or torn by a kill is left out.
    """
    lines = [line for text in log.splitlines() if (line := _parsed(text)) is not None]
    counts = Counter(line["service"] for line in lines)
    seen: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    for line in lines:
        service = line["service"]
        seen[service] += 1
        every = math.ceil(counts[service] / _LINES_OF_A_SERVICE)
        if line["episodes"] or seen[service] % every == 0 or line is lines[-1]:
            kept.append(line)
    return "".join(f"{json.dumps(line)}\n" for line in kept).encode()


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line: dict[str, Any] = json.loads(text)
        return line if {"service", "episodes"} <= set(line) else None
    except (ValueError, TypeError):
        return None
