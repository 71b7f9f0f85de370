"""Weights & Biases behind the same reports, with its real package and without a network."""

import logging
import struct
import sys
import time
from contextlib import closing

import pytest

from dreamer_core.config_tracker import TrackerConfig
from dreamer_core.errors import BadInput
from dreamer_core.report import tracker
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.report.tracker import Tracker, require_tracker
from tests.commands import exit_code_of
from tests.core.small import changed, small

CONFIG = changed(small(), {"tracker.wandb": "offline", "tracker.project": "tests"})
BLOCK, WHOLE, LAST = 32_768, 1, 4
EPISODE = EpisodeSummary(policy_step=4, episode_return=2.0, length=4)


def loss(value):
    return Report(service="learner", values={"dreamer_kl_nats": value})


def records(path):
    """The bytes of each record in a file of LevelDB's log format, after a head of 7 bytes."""
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # no room for another head
            at += BLOCK - at % BLOCK
        size, kind = struct.unpack_from("<HB", content, at + 4)  # after the checksum
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def told(run_dir):
    """(name, [(step, values)]) of what each process of a run left for `wandb sync`."""
    from wandb.proto import wandb_internal_pb2

    processes = []
    for path in sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb")):
        found = [wandb_internal_pb2.Record.FromString(data) for data in records(path)]
        rows = [
            (
                record.history.step.num,
                {item.key or item.nested_key[0]: item.value_json for item in record.history.item},
            )
            for record in found
            if record.WhichOneof("record_type") == "history"
        ]
        processes.append((path.stem, rows))
    return processes


def told_in_full(run_dir, count):
    """`told` once there are so many rows: a process of the package writes them, maybe late."""
    deadline = time.monotonic() + 60
    while sum(len(rows) for _, rows in told(run_dir)) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    return told(run_dir)


def report(run_dir, *reports):
    """What one process of a run reports: (report, policy step) each, after its restart."""
    with (
        RunLog(run_dir, frames_per_policy_step=2) as log,
        closing(Tracker(CONFIG, run_dir, frames_per_policy_step=2)) as sink,
    ):
        for each, step in ((Report(service="supervisor", is_restart=True), 0), *reports):
            for written in (sink, log):
                written.write(each, policy_step=step, gradient_step=step)


def test_a_resumed_run_goes_on_in_the_same_run_and_tells_no_frame_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "_CLOSE_S", 120)  # of a machine that is busy with other tests
    played = Report(service="collector", episodes=(EPISODE,))
    report(tmp_path, (loss(1.0), 3), (played, 5), (loss(float("nan")), 6))
    report(tmp_path, (loss(9.0), 4), (loss(2.0), 7))
    (first, before), (second, after) = told_in_full(tmp_path, 3)
    assert first.split("-")[-1] == second.split("-")[-1]
    rows = [*before, *after]
    values = [{k: float(v) for k, v in row.items() if k[0] != "_"} for _, row in rows]
    assert values[0] == {"env_frames": 6, "gradient_steps": 3, "world_model/kl_nats": 1.0}
    assert values[1]["env_frames"] == 8 and values[1]["episode/return"] == 2.0
    assert [row["env_frames"] for row in values] == [6, 8, 14]  # 8 is void, and told before
    steps = [step for step, _ in rows]
    assert steps == sorted(set(steps))


def test_nothing_of_it_is_imported_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    words = ("--env.suite", "gymnasium", "--env.task", "tests.learning.catch:make_env")
    assert exit_code_of("local", "debug", *words, "--run-dir", tmp_path / "run", "--steps", 1) == 0
    assert "wandb" not in sys.modules and not (tmp_path / "run/tracker.json").exists()


def test_a_missing_package_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(tracker, "_PACKAGE", "a_package_that_nobody_has")
    require_tracker(TrackerConfig())
    with pytest.raises(BadInput, match="install EXTRAS=wandb"):
        require_tracker(TrackerConfig(wandb="online"))


def test_a_tracker_that_fails_is_one_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "tracker.json").write_text("{}")  # no id
    caplog.set_level(logging.WARNING)
    report(tmp_path, *((loss(1.0), step) for step in range(9)))
    assert [x.split(":")[0] for x in caplog.messages] == [
        "Weights & Biases lacks reports from now on"
    ]


def test_a_tracker_that_hangs_delays_nothing(tmp_path, monkeypatch, caplog):
    hung = tracker.threading.Event()
    monkeypatch.setattr(Tracker, "_init", lambda _: hung.wait())
    monkeypatch.setattr(tracker, "_MOST_WAITING", 3)
    monkeypatch.setattr(tracker, "_CLOSE_S", 0.01)
    report(tmp_path, *((loss(1.0), step) for step in range(1, 9)))
    assert len(caplog.messages) == 1 and "3 reports behind" in caplog.text
    hung.set()
