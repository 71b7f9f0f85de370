"""What the tests of the log share."""

import contextlib
import resource

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_core.report.log import RunLog
from dreamer_core.report.report import Report

KL = Report(service="learner", values={"dreamer_kl_nats": 3.5})


def write_once(run_dir, report=KL, policy_step=100, gradient_step=25):
    with RunLog(run_dir, frames_per_policy_step=4) as log:
        log.write(report, policy_step=policy_step, gradient_step=gradient_step)
    return run_dir / "metrics.jsonl"


def events_of(run_dir):
    """What TensorBoard reads in the directory of a run."""
    return EventAccumulator(str(run_dir / "tensorboard")).Reload()


def scalars(run_dir, tag):
    return [(event.step, event.value) for event in events_of(run_dir).Scalars(tag)]


@contextlib.contextmanager
def room_in(path, num_bytes):
    """Lets a file grow by so much while the block runs: what is too long is written in part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
