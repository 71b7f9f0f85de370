"""One run that all come to: jobs of evaluators that end in every way, a log's reader, a stop."""

import os
import signal
import subprocess

from dreamer_core.report.read import read_jsonl
from tests.commands import exit_code_of
from tests.runs import CALM, DREAMER, NO_EVALUATION, OFTEN, ROOT, Run

KEEP = ("--checkpoint.keep-every", "1")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def start(command, run_dir, *options):
    return subprocess.Popen(
        [DREAMER, command, run_dir, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluations(run_dir):
    lines = read_jsonl(run_dir / "metrics.jsonl")
    return [line for line in lines if "dreamer_evaluation_return" in line.values]


class Attended:
    """What became of the run and of those beside it.

    Each job has `output`, what it said on stdout and stderr, and its exit code.
    """

    def __init__(self, run_dir):
        options = (*CALM, *OFTEN, *NO_EVALUATION, *KEEP, "--steps", "100000")
        self.run = Run("train", run_dir, *options)
        self.run.wait_for("dreamer_gradient_steps_total", least=5)
        self.follower = start("logs", run_dir, "--follow")
        self.step = min(int(path.parent.name) for path in run_dir.glob("checkpoints/*/*.json"))
        self.finished = start(
            "attach", run_dir, "--evaluators", "2", "--episodes", "4", "--mode", "sample"
        )
        self.filmed = start(
            "attach", run_dir, "--weights", str(self.step), "--episodes", "1", "--video"
        )
        self.misnamed = start("attach", run_dir, "--weights", "777777777")
        self.signalled = {number: start("attach", run_dir, "--forever") for number in SIGNALS}
        self.left_over = start("attach", run_dir, "--forever")
        self._end_jobs()
        self._lose_the_exchange()
        self.samples = self.run.scrape()
        self.stop_exit_code = exit_code_of("stop", run_dir)
        self.exit_code = self.run.finish()
        for job in (self.left_over, self.follower):
            job.output = job.communicate(timeout=90)

    def _end_jobs(self):
        for number, job in self.signalled.items():
            job.stdout.readline()  # it has played
            os.kill(job.pid, number)
        for job in (*self.signalled.values(), self.finished, self.filmed, self.misnamed):
            job.output = job.communicate(timeout=90)
        self.left_over.stdout.readline()

    def _lose_the_exchange(self):
        self.run.kill("ray::Exchange")
        self.run.wait_for("dreamer_restarts_total", "exchange")
        before = len(evaluations(self.run.run_dir))
        self.run.wait_until(lambda: len(evaluations(self.run.run_dir)) > before)
