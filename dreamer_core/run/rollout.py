"""Policy times environment gives episode chunks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dreamer_core.agent.policy import ActionMode, PolicyNetwork, PolicyState, step_generator
from dreamer_core.agent.threads import num_threads
from dreamer_core.bars import picture_of
from dreamer_core.config import EPISODE_LIMIT, Config
from dreamer_core.envs.base import Environment, EnvStep
from dreamer_core.report.report import EpisodeSummary
from dreamer_core.seeds import Stream
from dreamer_core.types import EpisodeChunk, FloatArray, UInt8Array, WeightsSnapshot


@dataclass(frozen=True, slots=True)
class Collected:
    """What `Rollout.run` gathered."""

    chunks: list[EpisodeChunk]
    episodes: tuple[EpisodeSummary, ...]
    """Those that ended."""


class Rollout:
    """Steps one environment and cuts what happens into chunks.

    The noise of each action is keyed by (seed, incarnation, episode, step).

    Args:
        env: the single environment instance.
        config: of the run.
        incarnation: which life of the collector this is; part of every episode's name.
        policy: what acts; None makes one for the CPU.
    """

    def __init__(
        self,
        env: Environment,
        config: Config,
        incarnation: int,
        policy: PolicyNetwork | None = None,
    ) -> None:
        self._env = env
        self._policy = policy or PolicyNetwork(config, env.spec)
        self._words = (config.seed, Stream.ACT.word, incarnation)
        self._incarnation = incarnation
        self._version: int | None = None
        self._is_random = True
        self._episode = -1
        self._episode_step = 0
        self._episode_return = 0.0
        self._step: EnvStep | None = None
        self._state: PolicyState = self._policy.initial()
        self._env_s = 0.0
        self._policy_s = 0.0

    def seconds(self) -> dict[str, float]:
        """Returns by metric where the time of this rollout went so far."""
        return {
            "dreamer_env_seconds_total": self._env_s,
            "dreamer_render_seconds_total": self._env.render_s,
            "dreamer_policy_seconds_total": self._policy_s,
        }

    def run(
        self, num_policy_steps: int, *, policy_step: int, weights: WeightsSnapshot | None
    ) -> Collected:
        """Takes `num_policy_steps` actions.

        An episode goes on in the next call. Going over from random play to the policy begins a new
        one, since the policy never saw the images before: the old episode stays cut short.

        Args:
            num_policy_steps: actions to take.
            policy_step: policy steps of the run before this call, for the summaries.
            weights: of the policy; None plays uniformly at random.

        Raises:
            EnvironmentCrashed: the simulator failed; this call's rows are lost, so that a new
                rollout of another incarnation has to be made.
        """
        self._take_over(weights)
        rows: list[_Row] = []
        chunks: list[EpisodeChunk] = []
        episodes: list[EpisodeSummary] = []
        with num_threads(1):
            for index in range(num_policy_steps):
                if self._step is None or self._step.is_last:
                    chunks += self._cut(rows)
                    rows.append(self._reset())
                rows.append(self._act())
                if rows[-1].step.is_last:
                    episodes.append(
                        EpisodeSummary(
                            policy_step=policy_step + index + 1,
                            episode_return=self._episode_return,
                            length=self._episode_step,
                            info=rows[-1].step.info,
                        )
                    )
        return Collected(chunks + self._cut(rows), tuple(episodes))

    def state(self) -> dict[str, Any] | None:
        """Returns where the rollout stands, as numbers, strings and arrays; see `restore`.

        None if the environment cannot tell.
        """
        env = self._env.state()
        if env is None:
            return None
        model, action = self._state.model, self._state.action
        return {
            "incarnation": self._incarnation,
            "episode": self._episode,
            "episode_step": self._episode_step,
            "episode_return": self._episode_return,
            "is_random": self._is_random,
            "env": env,
            "step": None if self._step is None else asdict(self._step),
            "deter": model.deter.numpy(force=True).copy(),
            "stoch": model.stoch.numpy(force=True).copy(),
            "action": action.numpy(force=True).copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken: with the same weights, the same actions follow.

        Raises:
            ValueError: the state is of another incarnation or task.
        """
        if state["incarnation"] != self._incarnation:
            raise ValueError(
                f"Wanted the state of incarnation {self._incarnation}, got that of "
                f"{state['incarnation']}; make the rollout with the state's incarnation"
            )
        self._env.restore(state["env"])
        self._episode = state["episode"]
        self._episode_step = state["episode_step"]
        self._episode_return = state["episode_return"]
        self._is_random = state["is_random"]
        step: dict[str, Any] | None = state["step"]
        if step is not None:
            step = {**step, "image": np.array(step["image"])}
        self._step = None if step is None else EnvStep(**step)
        self._state = self._policy.state_of(state["deter"], state["stoch"], state["action"])

    def _take_over(self, weights: WeightsSnapshot | None) -> None:
        if weights is not None and weights.version != self._version:
            self._policy.load(weights)
            self._version = weights.version
        if self._is_random != (weights is None):
            self._is_random = weights is None
            self._step = None

    def _reset(self) -> _Row:
        started_s = time.perf_counter()
        self._step = self._env.reset()
        self._env_s += time.perf_counter() - started_s
        self._state = self._policy.initial()
        self._episode += 1
        self._episode_step, self._episode_return = 0, 0.0
        return _Row(self._step, np.zeros(self._env.spec.action_size, np.float32), 0)

    def _act(self) -> _Row:
        assert self._step is not None
        words = (*self._words, self._episode, self._episode_step)
        started_s = time.perf_counter()
        if self._is_random:
            action = random_action(np.random.default_rng(words), self._env)
        else:
            generator = step_generator(*words)
            action, self._state = self._policy.act(
                self._state, self._step.image, generator, "sample", vector=self._step.vector
            )
        chosen_s = time.perf_counter()
        self._step = self._env.step(action)
        self._policy_s += chosen_s - started_s
        self._env_s += time.perf_counter() - chosen_s
        self._episode_step += 1
        self._episode_return += self._step.reward
        return _Row(self._step, action, self._episode_step)

    def _cut(self, rows: list[_Row]) -> list[EpisodeChunk]:
        """Makes the rows so far one chunk, and empties them."""
        if not rows:
            return []
        chunk = EpisodeChunk(
            incarnation=self._incarnation,
            episode=self._episode,
            first_step=rows[0].index,
            image=np.stack([row.step.image for row in rows]),
            prev_action=np.stack([row.prev_action for row in rows]),
            reward=np.array([row.step.reward for row in rows], np.float32),
            is_first=np.array([row.index == 0 for row in rows]),
            is_last=np.array([row.step.is_last for row in rows]),
            is_terminal=np.array([row.step.is_terminal for row in rows]),
            vector=_vectors([row.step for row in rows]),
        )
        rows.clear()
        return [chunk]


def _vectors(steps: Sequence[EnvStep]) -> FloatArray | None:
    """Vectors [N, V] of rows; None where none is observed."""
    vectors = [step.vector for step in steps if step.vector is not None]
    return np.stack(vectors) if vectors else None


@dataclass(frozen=True, slots=True)
class _Row:
    step: EnvStep
    prev_action: FloatArray
    index: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One episode that was played for its score."""

    summary: EpisodeSummary
    frames: tuple[UInt8Array, ...]
    """Images [64, 64, channels] as the agent saw them, or its vectors as bars; empty unless asked
    for."""


@dataclass(frozen=True, slots=True)
class PlayedRow:
    """One row of an episode that is played for its score, and what the policy made of it."""

    step: EnvStep
    state: PolicyState
    """Posterior state at the row's image and the action chosen there; after the last row nobody
    takes it."""


def play_episode(
    env: Environment, policy: PolicyNetwork, *, mode: ActionMode, words: tuple[int, ...]
) -> Iterator[PlayedRow]:
    """Yields the rows of one episode from its reset to its end; arguments of `evaluate_episode`.

    The environment stands at the row that was yielded last. New weights that are loaded between
    two rows count from the next row on.
    """
    step, state = env.reset(), policy.initial()
    for index in itertools.count():
        generator = step_generator(Stream.EVALUATE.word, *words, index)
        action, state = policy.act(state, step.image, generator, mode, vector=step.vector)
        yield PlayedRow(step, state)
        if step.is_last:
            return
        step = env.step(action)


def evaluate_episode(
    env: Environment,
    policy: PolicyNetwork,
    *,
    mode: ActionMode,
    words: tuple[int, ...],
    policy_step: int = 0,
    has_frames: bool = False,
    on_step: Callable[[int], None] = lambda _num_steps: None,
    limit: int = EPISODE_LIMIT,
) -> Evaluation:
    """Plays one episode from its reset to its end, or to the limit.

    Args:
        env: an environment of its own, not the collector's.
        policy: with its weights loaded.
        mode: how actions are chosen.
        words: key of the random numbers, such as (seed, episode).
        policy_step: policy steps of the run behind the weights, for the summary.
        has_frames: whether to keep the images.
        on_step: is told the policy steps so far; what it raises ends the episode.
        limit: policy steps after which it is cut off.
    """
    frames: list[UInt8Array] = []
    total, num_rows, info = 0.0, 0, dict[str, float]()
    with num_threads(1):
        for row in play_episode(env, policy, mode=mode, words=words):
            total, num_rows = total + row.step.reward, num_rows + 1
            info = dict(row.step.info)
            if has_frames:
                frames.append(picture_of(row.step.image, row.step.vector))
            on_step(num_rows - 1)
            if num_rows > limit:
                break
    summary = EpisodeSummary(
        policy_step=policy_step, episode_return=total, length=num_rows - 1, info=info
    )
    return Evaluation(summary, tuple(frames))


def random_action(rng: np.random.Generator, env: Environment) -> FloatArray:
    """A uniformly random action [A]: one-hot parts if discrete, in [-1, 1] if continuous."""
    size = env.spec.action_size
    if env.spec.is_discrete:
        classes = np.array(env.spec.action_classes or (size,))
        picked = [rng.integers(n) for n in classes]
        action = np.zeros(size, np.float32)
        action[np.cumsum(classes) - classes + picked] = 1
        return action
    return rng.uniform(-1, 1, size).astype(np.float32)
