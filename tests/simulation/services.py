"""The services of a simulated run.

Replay server, replay files and checkpoints are the real ones. Collector, learner and evaluator
count instead of playing and training: every row says in its image which it is, its reward follows
from that and from the weights, and every gradient step mixes its batch into the learner's state. So
whatever is lost, doubled, taken out of turn or drawn across a join shows in the numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import torch

from dreamer_core.config import CheckpointConfig, ReplayConfig, ScheduleConfig
from dreamer_core.presets import preset
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.run.resume import pack, unpack
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from dreamer_core.types import EnvSpec, EpisodeChunk, WeightsSnapshot
from services.workers import replay_server
from services.workers.exchange import Exchange
from services.workers.replay_server import ReplayServer

SPEC = EnvSpec(image_shape=(2, 2, 1), action_size=1, is_discrete=False, action_names=None)
replay_server.log_to_stderr = lambda _service: None  # it is this process's log


def make_config(
    *,
    steps=32,
    prefill=8,
    ratio=3,
    collect=4,
    publish=2,
    capacity=1_000,
    segment=64,
    save_interval_s=12.0,
):
    """A run of 8 gradient steps."""
    return replace(
        preset("debug"),
        steps=steps,
        schedule=ScheduleConfig(
            prefill_policy_steps=prefill,
            policy_steps_per_gradient_step=ratio,
            collect_policy_steps=collect,
            publish_interval_gradient_steps=publish,
            report_interval_gradient_steps=5,
        ),
        replay=ReplayConfig(
            capacity_steps=capacity, batch_size=2, batch_length=5, segment_steps=segment
        ),
        checkpoint=CheckpointConfig(interval_s=save_interval_s, keep=2),
    )


def mixed(*words):
    """A number from 0 to 2^31 - 1 that follows from whole numbers."""
    return zlib.crc32(np.array(words, np.int64).tobytes()) >> 1


class SimulatedCollector:
    """Plays episodes of 2 to 9 policy steps that end by themselves or by a limit."""

    def __init__(self, config, incarnation, *, has_state=True):
        self._seed = config.seed
        self._incarnation = incarnation
        self._has_state = has_state
        self._episode, self._step, self._is_open, self._is_random = -1, 0, False, True

    def state(self):
        if not self._has_state:
            return None
        return {
            "incarnation": self._incarnation,
            "episode": self._episode,
            "step": self._step,
            "is_open": self._is_open,
            "is_random": self._is_random,
        }

    def restore(self, state):
        assert state["incarnation"] == self._incarnation
        self._episode, self._step = state["episode"], state["step"]
        self._is_open, self._is_random = state["is_open"], state["is_random"]

    def collect(self, weights, order, policy_step):
        if self._is_random != order.is_random:  # the policy never saw the images before
            self._is_random, self._is_open = order.is_random, False
        digest = 0 if order.is_random else int(weights.params["digest"][0])
        chunks, rows, episodes = [], [], []
        for index in range(order.num_policy_steps):
            if not self._is_open:
                chunks += self._cut(rows)
                self._episode, self._step, self._is_open = self._episode + 1, 0, True
                rows = [(0, 0.0, False)]
            self._step += 1
            word = mixed(self._seed, self._incarnation, self._episode, self._step, digest)
            self._is_open = self._step < 2 + mixed(self._incarnation, self._episode) % 8
            rows.append((self._step, float(word % 4096), not self._is_open))
            if not self._is_open:
                step = policy_step + index + 1
                summary = EpisodeSummary(policy_step=step, episode_return=1.0, length=self._step)
                episodes.append(summary)
        chunks += self._cut(rows)
        return chunks, Report(service="collector", episodes=tuple(episodes))

    def _cut(self, rows):
        if not rows:
            return []
        steps = np.array([step for step, _, _ in rows])
        is_last = np.array([last for _, _, last in rows])
        image = np.zeros((len(rows), 2, 2, 1), np.uint8)
        image[:, 0, 0, 0] = self._incarnation
        image[:, 0, 1, 0], image[:, 1, 0, 0] = self._episode // 256, self._episode % 256
        image[:, 1, 1, 0] = steps
        return [
            EpisodeChunk(
                incarnation=self._incarnation,
                episode=self._episode,
                first_step=int(steps[0]),
                image=image,
                prev_action=(steps % 3 - 1.0).astype(np.float32)[:, None],
                reward=np.array([reward for _, reward, _ in rows], np.float32),
                is_first=steps == 0,
                is_last=is_last,
                is_terminal=is_last & bool(self._episode % 2),
            )
        ]


def names_of(images):
    """Names of rows [..., 2, 2, 1] as numbers that grow in the order of playing.

    A row's successor in its episode has the next number, and no other row has that.
    """
    parts = images.reshape(*images.shape[:-3], 4).astype(np.int64)
    return parts @ np.array([2**24, 2**16, 2**8, 1])


class SimulatedLearner:
    """Its state is one number that every batch changes; checkpoints are real."""

    def __init__(self, config, directory):
        self._config = config
        self._store = LocalStore(directory)
        self.steps = self.digest = 0
        self._resume = None
        found = checkpoint.load(self._store)
        if found is not None:
            self.steps, self.digest = found.step, int(found.tensors["digest"])
            self._resume = unpack(found.tensors.get("resume"))

    def resume_point(self):
        point, self._resume = self._resume, None
        if point is None:
            return None, None, None, None
        version = None if point.weights is None else point.weights.version
        return point.target, version, point.rollout, point.weights

    def gradient_step(self):
        return self.steps

    def train(self, batch, step, policy_step):
        if step != self.steps:
            raise ValueError(f"wanted gradient step {self.steps}, got a batch for {step}")
        crc = zlib.crc32(batch.image.tobytes() + batch.reward.tobytes() + batch.is_first.tobytes())
        self.digest = mixed(self.digest, step, crc)
        self.steps += 1
        values = {"dreamer_gradient_steps_total": float(self.steps)}
        return Report(service="learner", values=values) if self.steps % 5 == 0 else None

    def snapshot(self):
        params = {"digest": np.array([self.digest], np.float32)}
        return WeightsSnapshot(version=self.steps, params=params), self.steps

    def save(self, policy_step, position, rollout=None, weights=None):
        resume = pack(position, rollout, weights) if rollout else None
        checkpoint.save(
            self._store,
            step=self.steps,
            tensors={"digest": torch.tensor(self.digest), "resume": resume},
            facts={"policy_step": policy_step, "gradient_step": self.steps},
            keep=self._config.checkpoint.keep,
        )
        return Report(service="learner", values={"dreamer_checkpoint_seconds": 1.0})


class SimulatedEvaluator:
    """Takes its time."""

    def evaluate(self, weights, num_episodes, mode, policy_step):
        values = {"dreamer_evaluation_gradient_steps": float(weights.version)}
        return Report(service="evaluator", values=values)


def makers(config, run_dir, *, is_lockstep, has_state=True):
    """What a SimulatedHost makes services from."""
    return {
        "replay": lambda target=None: ReplayServer(
            config, SPEC, run_dir / "replay", is_rewindable=is_lockstep, target=target
        ),
        "learner": lambda: SimulatedLearner(config, run_dir / "checkpoints"),
        "collector": lambda life: SimulatedCollector(config, life, has_state=has_state),
        "evaluator": lambda _index: SimulatedEvaluator(),
        "exchange": lambda: Exchange(config),
    }
