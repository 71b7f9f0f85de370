"""Memory of a process that serves a replay and nothing else, beyond the page cache.

Measured in a process of its own (`python -m dreamer_core.bench.memory`), so that neither torch
nor what a benchmark did before counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer_core.config import ReplayConfig
from dreamer_core.replay.replay import Replay
from dreamer_core.types import EnvSpec

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMemory:
    """Resident memory that is no file's (RssAnon), in bytes."""

    started_bytes: int
    """Interpreter and imports."""
    opened_bytes: int
    """... and the replay."""
    sampled_bytes: int
    """... and what drawing batches left behind, the last batch included."""


def replay_memory(
    directory: Path, config: ReplayConfig, spec: EnvSpec, *, num_batches: int
) -> ReplayMemory:
    """Opens the replay in a new process, draws batches there, and returns what that took.

    Raises:
        subprocess.CalledProcessError: the process failed; its words are on stderr.
    """
    order = {
        "directory": str(directory),
        "config": asdict(config),
        "image_shape": spec.image_shape,
        "action_size": spec.action_size,
        "vector_size": spec.vector_size,
        "num_batches": num_batches,
    }
    done = subprocess.run(  # noqa: S603 (this interpreter, this module)
        [sys.executable, "-m", "dreamer_core.bench.memory", json.dumps(order)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ReplayMemory(**json.loads(done.stdout))


def _measure(order: str) -> ReplayMemory:
    fields = json.loads(order)
    started = _anonymous_bytes()
    replay = Replay(
        Path(fields["directory"]),
        ReplayConfig(**fields["config"]),
        image_shape=tuple(fields["image_shape"]),
        action_size=fields["action_size"],
        vector_size=fields["vector_size"],
    )
    opened = _anonymous_bytes()
    batches = (replay.sample(step, 0) for step in range(fields["num_batches"]))
    newest = deque(batches, maxlen=1)  # as a server holds it
    sampled = _anonymous_bytes()
    newest.clear()
    replay.close()
    return ReplayMemory(started_bytes=started, opened_bytes=opened, sampled_bytes=sampled)


def _anonymous_bytes() -> int:
    """RssAnon of this process."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_measure(sys.argv[1]))))
