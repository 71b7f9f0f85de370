"""Sixteen evaluators beside one learner on this machine."""

import json
import os
import time
from pathlib import Path

import pytest

from dreamer_core.bench.measure import machine
from tests.runs import NO_EVALUATION, TITLES, Run

RESULT = os.environ.get("DREAMER_LOAD_RESULT")
EVALUATORS = 16
STRETCHES, STRETCH_S = 3, 5.0
OPTIONS = (
    *("--steps", "10000000", "--env.time-limit-steps", "200"),
    *("--schedule.report-interval-gradient-steps", "1", "--replay.capacity-steps", "20000"),
)
MANY = ("--evaluation.interval-frames", "200", "--evaluators", str(EVALUATORS))

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


def learner_cpu_s(run):
    """Processor time that the learner has had."""
    (pid,) = (p for p, line in run.processes().items() if line.startswith(TITLES["learner"]))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speeds(run):
    """Gradient steps a second, and a second of the learner's processor time.

    Each in the best of some stretches: this machine may have something else to do meanwhile.
    """
    found = [speeds_now(run) for _ in range(STRETCHES)]
    return {name: max(each[name] for each in found) for name in found[0]}


def speeds_now(run):
    before = run.scrape()["dreamer_gradient_steps_total",], learner_cpu_s(run), time.monotonic()
    time.sleep(STRETCH_S)
    after = run.scrape()["dreamer_gradient_steps_total",], learner_cpu_s(run), time.monotonic()
    steps, cpu_s, seconds = (b - a for a, b in zip(before, after, strict=True))
    return {"a_second": steps / seconds, "a_cpu_second": steps / cpu_s}


def is_crowded(run):
    lines = run.processes().values()
    return sum(line.startswith("ray::Evaluator.evaluate") for line in lines) >= EVALUATORS - 2


def measured(run_dir, *options, is_ready):
    run = Run("train", run_dir, *OPTIONS, *options)
    run.wait_for("dreamer_gradient_steps_total", least=50)
    run.wait_until(lambda: is_ready(run), timeout_s=400)
    found = speeds(run)
    run.terminate()
    assert run.finish() == 143, run.stderr
    return found


def test_sixteen_evaluators_leave_the_learner_most_of_its_speed(tmp_path):
    alone = measured(tmp_path / "alone", *NO_EVALUATION, is_ready=lambda _: True)
    beside = measured(tmp_path / "beside", *MANY, is_ready=is_crowded)
    report(alone, beside)
    # Evaluators get what is left over; as equals they would leave the learner an eighth.
    assert beside["a_second"] > 0.3 * alone["a_second"]


def report(alone, beside):
    """Writes what was seen, if a file is named for it."""
    if RESULT is not None:
        result = {
            "what": f"gradient steps of preset debug in the best of {STRETCHES} stretches of "
            f"{STRETCH_S:.0f} s, without evaluators and beside {EVALUATORS} that play all the time",
            **machine(),
            "alone": alone,
            "beside": beside,
        }
        Path(RESULT).write_text(json.dumps(result, indent=1) + "\n")
