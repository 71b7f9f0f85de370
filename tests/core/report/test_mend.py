"""What a resumed run takes back of its log."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_core.report import mend
from dreamer_core.report.log import RunLog
from dreamer_core.report.mend import cut_torn_line, take_back
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import EpisodeSummary, Report
from tests.core.report.logs import KL


def line(service, policy_step, gradient_step):
    position = {"policy_step": policy_step, "gradient_step": gradient_step}
    return json.dumps({"service": service, **position, "padding": "x" * 50}).encode() + b"\n"


def episode_at(policy_step):
    episode = EpisodeSummary(policy_step=policy_step, episode_return=1.0, length=9)
    return Report(service="collector", episodes=(episode,))


LINES = [
    line("learner", 10, 1),
    line("collector", 20, 2),
    line("learner", 20, 3),
    b"damaged\n",
    b"null\n",
    line("collector", 20, 4),
    line("learner", 30, 4),
    line("collector", 40, 5),
]


@pytest.fixture(params=[1, 7, 64, 100_000], autouse=True)
def _block_bytes(request, monkeypatch):
    monkeypatch.setattr(mend, "_BLOCK_BYTES", request.param)


@pytest.mark.parametrize(
    ("policy_step", "gradient_step", "gone"),
    [
        (40, 5, ()),
        (99, 9, ()),
        (30, 4, (7,)),
        (20, 2, (2, 6, 7)),
        (40, 2, (2, 6)),
        (0, 0, (0, 1, 2, 5, 6, 7)),
    ],
)
def test_lines_of_later_steps_are_left_out_and_others_kept_as_they_are(
    tmp_path, policy_step, gradient_step, gone
):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES))
    inode = path.stat().st_ino
    assert take_back(path, policy_step=policy_step, gradient_step=gradient_step) == len(gone)
    kept = [text for number, text in enumerate(LINES) if number not in gone]
    assert path.read_bytes() == b"".join(kept)
    assert gone or path.stat().st_ino == inode


@pytest.mark.parametrize("torn", [b"", b"{", b'{"service": "lea'])
@pytest.mark.parametrize("whole", [[], LINES[:1], LINES])
def test_a_torn_line_is_cut_and_no_other(tmp_path, torn, whole):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(whole) + torn)
    cut_torn_line(path)
    assert path.read_bytes() == b"".join(whole)


def test_a_log_goes_on_where_the_run_does_and_so_does_tensorboard(tmp_path):
    restart = Report(service="supervisor", is_restart=True)
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        for step in (10, 20, 30):
            log.write(KL, policy_step=step, gradient_step=step)
            log.write(episode_at(step - 1), policy_step=step, gradient_step=step)
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        log.write(restart, policy_step=20, gradient_step=20)
        log.write(KL, policy_step=20, gradient_step=20)  # said already
        log.write(episode_at(24), policy_step=25, gradient_step=25)
        log.write(KL, policy_step=25, gradient_step=25)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    frames = {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert frames["world_model/kl_nats"] == [40, 80, 100]
    assert frames["episode/return"] == [36, 76, 96]
    steps = [line.policy_step for line in read_jsonl(log.path)]
    assert steps == [10, 10, 20, 20, 20, 25, 25]


def test_a_log_that_cannot_be_taken_back_goes_on(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dreamer_core.report.log.take_back", full)
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        log.write(KL, policy_step=30, gradient_step=30)
        log.write(Report(service="supervisor", is_restart=True), policy_step=20, gradient_step=20)
        log.write(KL, policy_step=25, gradient_step=25)
    assert [line.policy_step for line in read_jsonl(log.path)] == [30, 25]
