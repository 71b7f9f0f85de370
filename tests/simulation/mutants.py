"""Faults put into the program on purpose: the simulation is worth what it finds of them."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

from dreamer_core.replay import draw, replay
from dreamer_core.replay.replay import Replay
from dreamer_core.run.schedule import Schedule
from dreamer_core.run.scoring import EvaluationClock
from services.runtime.calls import Calls
from services.runtime.crew import Crew
from services.runtime.evaluations import Evaluations
from services.runtime.guests import Guests
from services.runtime.moves import Moves
from services.runtime.recovery import Recovery
from services.runtime.saves import Saves
from services.runtime.traffic import Traffic
from services.workers.exchange import Exchange
from services.workers.replay_server import ReplayServer
from tests.simulation.scenario import undisturbed
from tests.simulation.services import SimulatedLearner


def _acknowledge_first(server, chunks):
    """Stores the chunks of the call before, and counts those of this one."""
    late, server.late = getattr(server, "late", []), chunks
    for chunk in late:
        server._replay.insert(chunk)
    counts = server.counts()
    steps = counts.policy_steps + sum(chunk.policy_steps for chunk in chunks)
    object.__setattr__(counts, "policy_steps", steps)
    return counts


def _keep_the_collector(recovery, *, is_chunk_lost):
    return _replace_dead(recovery, is_chunk_lost=False)


def _join_silently(buffers):
    buffers.is_first[:, 1:] = False
    return _finish(buffers)


def _train_without_limit(traffic):
    return traffic._schedule.may_train() and traffic.is_free()


def _delete_at_once(replay):
    """Deletes what a resume from the newest checkpoint still needs."""
    segment = replay._segments.pop(0)
    segment.path.unlink()
    replay._index.forget_oldest(segment.num_records)


def _unless_any_was(clock, _version):
    return clock._version is None


def _count_whenever_asked(evaluations, policy_steps):
    return policy_steps > evaluations._evaluated_at


def _publish_once(schedule):
    return schedule.published_version is None


_replace_dead = Recovery._replace_dead
_finish = draw._BatchBuffers.finish


def _note_at_once(exchange, noted):
    left = _take(exchange, noted)
    exchange._noted |= {guest: number + 1 for guest, number in left}
    return left


def _report_only(guests, left):
    for report in left.values():
        guests._report(report)


_take = Exchange.take

MUTANTS = {
    "acknowledge before the write": (ReplayServer, "insert", _acknowledge_first),
    "forget the fence": (Replay, "fence", lambda *_: None),
    "drop the in-flight count": (Schedule, "collecting", lambda *_: None),
    "keep the collector whose chunk was lost": (Recovery, "_replace_dead", _keep_the_collector),
    "leave the clock as it was after a loss": (Recovery, "_stand", lambda *_: None),
    "join episodes without is_first": (draw._BatchBuffers, "finish", _join_silently),
    "train without a limit on calls in flight": (Traffic, "_may_train", _train_without_limit),
    "keep calls of before in lockstep": (Calls, "drop", lambda *_: None),
    "never take the replay back": (replay, "rewind", lambda *_: False),
    "forget the resume point": (SimulatedLearner, "resume_point", lambda _: (None,) * 4),
    "keep the clock of a save that died": (Saves, "lost", lambda _: None),
    "save only at the end": (Saves, "is_due", lambda _: False),
    "stay on a node that is drained": (Moves, "make", lambda _: False),
    "leave a node before all is saved": (Saves, "is_made", property(lambda _: True)),
    "never evaluate": (EvaluationClock, "is_due", lambda *_: False),
    "take older weights for the last": (EvaluationClock, "is_last_wanted", _unless_any_was),
    "evaluate before it is due": (EvaluationClock, "is_due", _count_whenever_asked),
    "wait for evaluations at the end": (Evaluations, "drop", lambda *_: None),
    "never post weights": (Traffic, "post", lambda _: None),
    "publish once": (Schedule, "should_publish", _publish_once),
    "blame whoever waits": (Crew, "whose_silence", lambda _crew, service, _verb: service),
    "blame the replay": (Crew, "whose_silence", lambda *_: "replay"),
    "note a guest's reports before the run has them": (Exchange, "take", _note_at_once),
    "forget what of a guest is noted": (Guests, "_note", _report_only),
    "delete what is evicted at once": (Replay, "_evict_oldest_segment", _delete_at_once),
}


@contextmanager
def mutated(name):
    """The program with this fault, while the block runs."""
    owner, attribute, replacement = MUTANTS[name]
    undisturbed.cache_clear()  # an undisturbed run has the fault too
    try:
        with patch.object(owner, attribute, replacement):
            yield
    finally:
        undisturbed.cache_clear()
