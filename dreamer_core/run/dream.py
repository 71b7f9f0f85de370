"""An agent watched while it plays: what it sees in each image and what it imagines to follow.

    k            0                 1 .. H
    state        s_0 posterior     s_k drawn from the prior: no image is seen
    image        reconstruction    imagined
    action       a_0 as played     a_k drawn from the actor, whatever the mode of play
    heads        reward, discount and value of s_k

Reward and discount are those of arriving at s_k, as in behavior.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import ActionMode, PolicyNetwork, PolicyState, step_generator
from dreamer_core.bars import picture_of
from dreamer_core.envs.base import Environment
from dreamer_core.model.rssm import RSSMState
from dreamer_core.run.rollout import play_episode
from dreamer_core.seeds import Stream
from dreamer_core.types import FloatArray, UInt8Array

DREAM_HORIZON = 15
"""H, steps imagined after each image: those of the paper's behaviour learning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dream:
    """What an agent sees in its present state s_0 and imagines to follow; see the chart above."""

    image: FloatArray
    """[H+1, 64, 64, channels] in [0, 1]; row 0 is the reconstruction. Bars without images."""
    reward: FloatArray
    """[H+1], mean of the reward head: of the transformed reward, so tanh(r) on Atari."""
    discount: FloatArray
    """[H+1], mean of the discount head, which contains gamma."""
    value: FloatArray
    """[H+1], the critic's estimate."""
    action: FloatArray
    """[H, A]."""
    preference: FloatArray
    """[A], what the actor thinks of s_0: probabilities of choices, modes of other actions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Row t of an episode as it is played, with the dream that begins there."""

    t: int
    """Policy steps of the episode so far."""
    screen: UInt8Array
    """What a person would see, [height, width, 1 or 3]."""
    image: UInt8Array
    """What the model sees, [64, 64, channels]; its vector as bars where it sees no image."""
    reward: float
    """Of arriving here, neither clipped nor squashed."""
    transformed_reward: float
    """The same as the model learns it; compare with `dream.reward[0]`."""
    episode_return: float
    """Sum of the rewards up to here."""
    is_last: bool
    """The episode stops here; the action is not taken."""
    action: FloatArray
    """[A], chosen here."""
    dream: Dream


def watch_episode(
    env: Environment,
    policy: PolicyNetwork,
    agent: DreamerAgent,
    *,
    mode: ActionMode,
    words: tuple[int, ...],
    horizon: int = DREAM_HORIZON,
) -> Iterator[Moment]:
    """Yields each row of an episode, which is the one that `evaluate_episode` would play.

    Args:
        env: an environment of its own.
        policy: with the agent's weights loaded; both may be renewed between two rows.
        agent: dreams; on a CPU.
        mode: how actions are chosen.
        words: key of the random numbers, such as (seed, episode).
        horizon: H.
    """
    episode_return = 0.0
    for t, row in enumerate(play_episode(env, policy, mode=mode, words=words)):
        episode_return += row.step.reward
        reward = agent.world_model.transform_reward(torch.tensor(row.step.reward))
        yield Moment(
            t=t,
            screen=env.screen(),
            image=picture_of(row.step.image, row.step.vector),
            reward=row.step.reward,
            transformed_reward=float(reward),
            episode_return=episode_return,
            is_last=row.step.is_last,
            action=row.state.action[0].numpy(),
            dream=dream(agent, row.state, step_generator(Stream.DREAM.word, *words, t), horizon),
        )


@torch.inference_mode()
def dream(
    agent: DreamerAgent, present: PolicyState, generator: torch.Generator, horizon: int
) -> Dream:
    """Returns what the agent sees and imagines.

    Args:
        agent: on a CPU.
        present: posterior state s_0 and the action chosen there.
        generator: of the noise: first of the states [H, 1, ...], then of the actions [H-1, 1, A].
        horizon: H.

    Raises:
        ValueError: the horizon is below 2.
    """
    if horizon < 2:
        raise ValueError(f"horizon={horizon}: a dream needs 2 imagined steps or more")
    model, behavior = agent.world_model, agent.behavior
    start = RSSMState(present.model.deter, present.model.stoch)
    state_noise = model.rssm.latent.noise((horizon, 1), generator)
    action_noise = behavior.actions.noise((horizon - 1, 1), generator)
    first = model.rssm.imagine_step(start, present.action, state_noise[0])
    imagined = behavior.imagine(model.rssm, first, action_noise, state_noise[1:])
    assert isinstance(imagined.feat, Tensor)  # since `start` is not located
    feat = torch.cat([start.feat.unsqueeze(0), imagined.feat]).squeeze(1)  # [H+1, F]
    return Dream(
        image=model.decode(feat).picture(),
        reward=model.predict_reward(feat).numpy(),
        discount=model.predict_discount(feat).numpy(),
        value=behavior.critic(feat).float().squeeze(-1).numpy(),
        action=torch.cat([present.action.unsqueeze(0), imagined.action]).squeeze(1).numpy(),
        preference=behavior.actions.preference(behavior.actor(start.feat).float())[0].numpy(),
    )
