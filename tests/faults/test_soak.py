"""One long run beside 16 evaluators, of which something is killed again and again, of each kind."""

import json
import os
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from dreamer_core.bench.measure import machine
from dreamer_core.report.read import read_jsonl
from tests.runs import (
    EXACT,
    OFTEN,
    TITLES,
    Run,
    checkpoint_counts,
    counted,
    due,
    record_keys,
    replay_counts,
)

SECONDS = float(os.environ.get("DREAMER_SOAK_SECONDS", "900"))
RESULT = os.environ.get("DREAMER_SOAK_RESULT")
SEED = int(os.environ.get("DREAMER_SOAK_SEED", "0"))
PAUSE_S = min(28.0, SECONDS / 10)  # between two kills, on average
GOES_ON_WITHIN_S = 90.0  # what the limits for its work alone would find out takes 120 s, or 300
EVALUATORS = 16
MOST_BYTES = 6e9  # 0.2 GB an evaluator, and all the rest
KINDS = ("collector", "replay", "learner", "evaluator", "raylet", "supervisor")
ENDS_THE_COMMAND = ("raylet", "supervisor")
OPTIONS = (
    *EXACT,
    *OFTEN,
    *("--steps", "10000000", "--env.time-limit-steps", "200"),
    *("--replay.capacity-steps", "20000", "--evaluation.interval-frames", "400"),
    *("--evaluators", str(EVALUATORS)),
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 1800)]


@dataclass
class Kill:
    """What was killed, and how long it took until a gradient step was taken again."""

    kind: str
    at_s: float
    goes_on_after_s: float
    policy_steps: int
    gradient_steps: int


def titles():
    return {**TITLES, "evaluator": "ray::Evaluator", "raylet": "/raylet/raylet"}


def memory(run):
    """Bytes that the run's processes hold, shared ones once, without the page cache."""
    total = 0
    for pid in run.processes():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        total += 1024 * sum(int(sizes.get(name, 0)) for name in ("Pss_Anon", "Pss_Shmem"))
    return total


class Soak:
    """The run in its present life, and what was seen of it."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.kills, self.curve = [], []
        self._started_s = time.monotonic()
        self.lives = 0
        self.start()

    def start(self):
        self.lives += 1
        self.run = Run("train", self.run_dir, *OPTIONS)

    def now_s(self):
        return time.monotonic() - self._started_s

    def gradient_steps(self):
        return self.run.scrape().get(("dreamer_gradient_steps_total",), 0.0)

    def process_ids(self, kind):
        return [pid for pid, line in self.run.processes().items() if titles()[kind] in line]

    def watch(self, seconds):
        """Lets the run go on, and notes its memory."""
        end_s = self.now_s() + seconds
        while self.now_s() < end_s:
            assert not self.run.is_over(), self.run.finish() or self.run.stderr
            self.curve.append((round(self.now_s(), 1), memory(self.run)))
            time.sleep(min(5.0, max(0.0, end_s - self.now_s())))

    def kill(self, kind):
        """Kills one process, and waits until a gradient step is taken after it."""
        restarts = self.run.scrape().get(("dreamer_restarts_total", kind), 0.0)
        if kind == "supervisor":
            self.run.kill("supervisor")
        else:
            os.kill(self.run.wait_until(lambda: self.process_ids(kind))[0], signal.SIGKILL)
        if kind in ENDS_THE_COMMAND:
            self.run.finish()
            self.start()
        killed_s = self.now_s()
        if kind not in ENDS_THE_COMMAND:
            self.run.wait_for("dreamer_restarts_total", kind, least=restarts + 1)
        trained = self.gradient_steps()
        self.run.wait_until(lambda: self.gradient_steps() > trained)
        goes_on_after_s = self.now_s() - killed_s
        policy_steps = int(counted(self.run_dir, "dreamer_policy_steps_total")[-1])
        last = read_jsonl(self.run_dir / "metrics.jsonl", tail_bytes=50_000)[-1]
        assert last.gradient_step <= due(last.policy_step)
        at_s, after_s = round(killed_s, 1), round(goes_on_after_s, 1)
        self.kills.append(Kill(kind, at_s, after_s, policy_steps, last.gradient_step))


def soak(run_dir):
    rng = random.Random(SEED)
    found = Soak(run_dir)
    found.run.wait_for("dreamer_gradient_steps_total", least=20)
    order = []
    while found.now_s() < SECONDS or {kill.kind for kill in found.kills} != set(KINDS):
        found.watch(rng.uniform(0.5, 1.5) * PAUSE_S)
        order = order or rng.sample(KINDS, len(KINDS))
        found.kill(order.pop())
    found.watch(PAUSE_S)
    found.run.terminate()
    exit_code = found.run.finish()
    return found, exit_code


def test_a_run_survives_kills_of_every_kind(tmp_path):
    run_dir = tmp_path / "run"
    found, exit_code = soak(run_dir)
    report(found)
    assert exit_code == 143, found.run.stderr
    counts = replay_counts(run_dir)
    assert checkpoint_counts(run_dir)[0] == counts.policy_steps
    assert checkpoint_counts(run_dir)[1] <= due(counts.policy_steps)
    keys = record_keys(run_dir)
    assert len(keys) == len(set(keys)), "a row was stored twice"
    steps = counted(run_dir, "dreamer_policy_steps_total")
    assert steps == sorted(steps) and steps[-1] == counts.policy_steps, (
        "an acknowledged step is gone"
    )
    assert not [kill for kill in found.kills if kill.goes_on_after_s > GOES_ON_WITHIN_S]
    assert_bounded(found.curve)


def assert_bounded(curve):
    """All of it fits, and the last third never holds clearly more than the middle third did.

    In a short run the evaluators are still being started.
    """
    sizes = [size for _, size in curve]
    assert max(sizes) < MOST_BYTES
    third = len(sizes) // 3
    if SECONDS >= 900:
        assert max(sizes[2 * third :]) < 1.25 * max(sizes[third : 2 * third])


def report(found):
    """Writes what was seen, if a file is named for it."""
    if RESULT is None:
        return
    lines = read_jsonl(found.run_dir / "metrics.jsonl")
    result = {
        "what": f"a run of {found.now_s():.0f} s beside {EVALUATORS} evaluators; something is "
        f"killed every {PAUSE_S:.0f} s on average, chosen with seed {SEED}",
        **machine(),
        "settings": list(OPTIONS),
        "lives_of_the_command": found.lives,
        "kills": [asdict(kill) for kill in found.kills],
        "policy_steps": int(counted(found.run_dir, "dreamer_policy_steps_total")[-1]),
        "gradient_steps": lines[-1].gradient_step,
        "evaluations": sum("dreamer_evaluation_return" in line.values for line in lines),
        "memory_bytes": found.curve,
    }
    Path(RESULT).write_text(json.dumps(result, indent=1) + "\n")
