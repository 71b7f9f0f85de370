"""Rollout: rows as the alignment chart wants them, wherever a call happens to cut an episode."""

import time

import numpy as np
import pytest

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.run.rollout import Rollout, evaluate_episode, random_action
from dreamer_core.types import WeightsSnapshot
from tests.core.counting_env import CountingEnvironment
from tests.core.small import changed, small

COLUMNS = ("image", "prev_action", "reward", "is_first", "is_last", "is_terminal")


def make_rollout(length=5, *, incarnation=0, config=None, **options):
    env = CountingEnvironment(length, **options)
    return Rollout(env, config or small("debug"), incarnation), env


def make_weights(*, seed=0, version=0, is_discrete=True, sharpness=1.0):
    """A new agent's weights; `sharpness` multiplies the actor's, so that actions differ more."""
    spec = CountingEnvironment(1, is_discrete=is_discrete).spec
    params = DreamerAgent(changed(small("debug"), {"seed": seed}), spec).snapshot().params
    scale = {name: sharpness if name.startswith("actor") else 1 for name in params}
    return WeightsSnapshot(
        version=version, params={name: value * scale[name] for name, value in params.items()}
    )


def collect(rollout, calls, weights=None):
    """Chunks of calls of these sizes."""
    done, chunks = 0, []
    for size in calls:
        chunks += rollout.run(size, policy_step=done, weights=weights).chunks
        done += size
    return chunks


def joined(chunks):
    """All rows of the chunks, by column."""
    return {name: np.concatenate([getattr(c, name) for c in chunks]) for name in COLUMNS}


def test_the_time_of_collecting_is_told_apart(monkeypatch):
    rollout, env = make_rollout(length=50)
    now_s = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])

    def taking(seconds, call):
        def timed(*arguments, **options):
            now_s[0] += seconds
            return call(*arguments, **options)

        return timed

    monkeypatch.setattr(env, "reset", taking(10, env.reset))
    monkeypatch.setattr(env, "step", taking(2, env.step))
    monkeypatch.setattr(rollout._policy, "act", taking(3, rollout._policy.act))
    collect(rollout, [4, 1], make_weights())
    assert rollout.seconds() == {
        "dreamer_env_seconds_total": 10 + 5 * 2,
        "dreamer_render_seconds_total": 0.25,
        "dreamer_policy_seconds_total": 5 * 3,
    }


# Rows


@pytest.mark.parametrize("calls", [(12,), (1,) * 12, (5, 5, 2), (4, 3, 5), (7, 5)])
def test_every_row_has_the_image_action_and_reward_of_its_step(calls):
    rollout, env = make_rollout(length=5)
    rows = joined(collect(rollout, calls))
    steps = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert rows["image"][:, 0, 0, 0].tolist() == steps
    assert rows["reward"].tolist() == [
        *(0, 1, 2, 3, 4, 5),
        *(0, 101, 102, 103, 104, 105),
        *(0, 201, 202),
    ]
    starts = rows["is_first"]
    assert (rows["prev_action"][~starts] == np.stack(env.actions)).all()
    assert (rows["prev_action"][starts] == 0).all()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_flags_mark_the_start_the_end_and_the_kind_of_end(is_terminal):
    rollout, _ = make_rollout(length=3, is_terminal=is_terminal)
    rows = joined(collect(rollout, (2, 5)))
    assert rows["is_first"].tolist() == [True, False, False, False] * 2 + [True, False]
    assert rows["is_last"].tolist() == [False, False, False, True] * 2 + [False, False]
    assert rows["is_terminal"].tolist() == [is_terminal and last for last in rows["is_last"]]


def test_columns_have_the_types_that_the_replay_stores():
    rollout, _ = make_rollout()
    rows = joined(collect(rollout, (3,)))
    assert [rows[name].dtype for name in COLUMNS] == [
        *(np.uint8, np.float32, np.float32),
        *(np.bool_, np.bool_, np.bool_),
    ]
    assert rows["image"].shape == (4, 64, 64, 1) and rows["prev_action"].shape == (4, 3)


# Chunks


def test_chunks_continue_each_other_within_an_episode():
    rollout, _ = make_rollout(length=5, incarnation=7)
    chunks = collect(rollout, (2, 2, 3))
    names = [(c.incarnation, c.episode, c.first_step, len(c)) for c in chunks]
    assert names == [(7, 0, 0, 3), (7, 0, 3, 2), (7, 0, 5, 1), (7, 1, 0, 3)]


@pytest.mark.parametrize("calls", [(1,) * 23, (23,), (4, 4, 4, 11)])
def test_each_chunk_holds_one_episode_and_counts_the_actions_taken(calls):
    rollout, _ = make_rollout(length=5)
    chunks = collect(rollout, calls)
    assert sum(chunk.policy_steps for chunk in chunks) == 23
    assert all(not chunk.is_first[1:].any() and not chunk.is_last[:-1].any() for chunk in chunks)
    assert all(chunk.is_first[0] == (chunk.first_step == 0) for chunk in chunks)


def test_an_episode_that_ends_is_summed_up_at_the_runs_policy_step():
    rollout, _ = make_rollout(length=3)
    first = rollout.run(2, policy_step=1_000, weights=None)
    second = rollout.run(5, policy_step=1_002, weights=None)
    assert first.episodes == ()
    assert [(e.policy_step, e.length) for e in second.episodes] == [(1_003, 3), (1_006, 3)]
    assert [e.episode_return for e in second.episodes] == [1 + 2 + 3, 101 + 102 + 103]


# Weights


def test_going_over_from_random_play_to_the_policy_begins_a_new_episode():
    rollout, _ = make_rollout(length=9)
    before = rollout.run(4, policy_step=0, weights=None).chunks
    after = rollout.run(4, policy_step=4, weights=make_weights()).chunks
    assert [(c.episode, c.first_step, len(c)) for c in before + after] == [(0, 0, 5), (1, 0, 5)]
    assert not before[-1].is_last.any() and after[0].is_first[0]


def test_new_weights_go_on_with_the_running_episode():
    rollout, _ = make_rollout(length=9)
    rollout.run(4, policy_step=0, weights=make_weights(version=0))
    (chunk,) = rollout.run(4, policy_step=4, weights=make_weights(version=16)).chunks
    assert (chunk.episode, chunk.first_step) == (0, 5)


@pytest.mark.parametrize("calls", [(), (3,), (9,), (13,)])
def test_a_restored_rollout_acts_as_the_one_that_was_never_stopped(calls):
    rollout, _ = make_rollout(length=9)
    collect(rollout, calls, make_weights(sharpness=5))
    state = rollout.state()
    other, _ = make_rollout(length=9)
    assert state is not None
    other.restore(state)
    wanted, got = (collect(each, (4, 8), make_weights(sharpness=5)) for each in (rollout, other))
    for a, b in zip(wanted, got, strict=True):
        assert (a.episode, a.first_step) == (b.episode, b.first_step)
        assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in COLUMNS)


def test_a_state_of_another_incarnation_is_refused():
    rollout, _ = make_rollout()
    state = rollout.state()
    assert state is not None
    with pytest.raises(ValueError, match="incarnation 0, got that of 5"):
        rollout.restore({**state, "incarnation": 5})


def test_new_weights_change_the_actions():
    actions = []
    for seed in (0, 1):
        rollout, env = make_rollout(length=50)
        collect(rollout, (30,), make_weights(seed=seed, sharpness=5))
        actions.append(np.stack(env.actions))
    assert (actions[0] != actions[1]).any()


def test_weights_of_another_model_are_refused():
    rollout, _ = make_rollout()
    with pytest.raises(ValueError, match="gradient step 0 do not fit this policy"):
        rollout.run(1, policy_step=0, weights=make_weights(is_discrete=False))


# Random numbers


@pytest.mark.parametrize("weights", [None, make_weights(sharpness=5)], ids=["random", "policy"])
@pytest.mark.parametrize("calls", [(1,) * 24, (5, 7, 12), (3,) * 8])
def test_the_same_seed_gives_the_same_actions_however_the_calls_are_cut(calls, weights):
    (whole, env), (cut, other) = make_rollout(length=7), make_rollout(length=7)
    collect(whole, (24,), weights)
    collect(cut, calls, weights)
    assert (np.stack(env.actions) == np.stack(other.actions)).all()


@pytest.mark.parametrize("change", ["seed", "incarnation"])
def test_another_seed_or_life_of_the_collector_gives_other_actions(change):
    (rollout, env), (other, other_env) = (
        make_rollout(length=7),
        make_rollout(config=changed(small("debug"), {"seed": 1}), length=7)
        if change == "seed"
        else make_rollout(incarnation=1, length=7),
    )
    collect(rollout, (24,))
    collect(other, (24,))
    assert (np.stack(env.actions) != np.stack(other_env.actions)).any()


def test_two_episodes_draw_different_actions():
    rollout, env = make_rollout(length=12)
    collect(rollout, (24,))
    assert (np.stack(env.actions[:12]) != np.stack(env.actions[12:])).any()


def test_random_play_takes_each_discrete_action_equally_often():
    env, rng = CountingEnvironment(1), np.random.default_rng(0)
    actions = np.stack([random_action(rng, env) for _ in range(3_000)])
    assert (np.sort(actions, axis=1) == [0, 0, 1]).all() and actions.dtype == np.float32
    assert (np.abs(actions.sum(0) - 1_000) < 4 * np.sqrt(3_000 * 2 / 9)).all()


def test_random_play_takes_each_joint_action_equally_often():
    env, rng = CountingEnvironment(1, classes=(2, 3)), np.random.default_rng(0)
    actions = np.stack([random_action(rng, env) for _ in range(3_000)])
    joint = np.einsum("ni,nj->ij", actions[:, :2], actions[:, 2:])
    assert (joint.sum() == 3_000) and actions.dtype == np.float32
    assert (np.abs(joint - 500) < 4 * np.sqrt(3_000 * 5 / 36)).all()


def test_a_single_discrete_action_is_drawn_by_one_number():
    env = CountingEnvironment(1)
    drawn = random_action(np.random.default_rng(3), env).argmax()
    assert drawn == np.random.default_rng(3).integers(3)


def test_random_play_covers_the_continuous_range_evenly():
    env, rng = CountingEnvironment(1, is_discrete=False), np.random.default_rng(0)
    actions = np.stack([random_action(rng, env) for _ in range(2_000)])
    counts = np.stack([np.histogram(a, 4, (-1, 1))[0] for a in actions.T])
    assert actions.shape == (2_000, 2) and counts.sum() == 4_000
    assert (np.abs(counts - 500) < 4 * np.sqrt(500 * 3 / 4)).all()


# Evaluation


def make_policy(**options):
    env = CountingEnvironment(6)
    policy = PolicyNetwork(small("debug"), env.spec)
    policy.load(make_weights(**options))
    return policy


def evaluated(policy, mode, episode=0):
    env = CountingEnvironment(6)
    result = evaluate_episode(env, policy, mode=mode, words=(0, episode), has_frames=True)
    return result, np.stack(env.actions)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_an_evaluation_plays_one_episode_from_its_reset_to_its_end(mode):
    result, actions = evaluated(make_policy(), mode)
    assert (result.summary.length, result.summary.episode_return) == (6, 1 + 2 + 3 + 4 + 5 + 6)
    assert [int(frame[0, 0, 0]) for frame in result.frames] == [0, 1, 2, 3, 4, 5, 6]
    assert (actions.sum(1) == 1).all()


@pytest.mark.parametrize(("limit", "length"), [(3, 3), (6, 6), (7, 6)])
def test_an_evaluation_ends_at_its_limit_at_the_latest(limit, length):
    env = CountingEnvironment(6)
    words = (0, 0)
    result = evaluate_episode(env, make_policy(), mode="greedy", words=words, limit=limit)
    assert (result.summary.length, len(env.actions)) == (length, length)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_an_evaluation_is_repeated_by_its_words(mode):
    policy = make_policy()
    assert (evaluated(policy, mode)[1] == evaluated(policy, mode)[1]).all()


def test_sampling_draws_other_actions_in_another_episode():
    policy = make_policy()
    episodes = [evaluated(policy, "sample", episode)[1] for episode in range(4)]
    assert any((actions != episodes[0]).any() for actions in episodes)


def test_greedy_takes_the_likeliest_action_where_sampling_does_not():
    policy = make_policy(sharpness=0)
    with_tie = np.concatenate([evaluated(policy, "greedy", e)[1] for e in range(4)])
    drawn = np.concatenate([evaluated(policy, "sample", e)[1] for e in range(4)])
    assert (with_tie == [1, 0, 0]).all() and len(np.unique(drawn, axis=0)) == 3


def test_frames_are_kept_only_if_asked_for():
    env, policy = CountingEnvironment(3), make_policy()
    result = evaluate_episode(env, policy, mode="greedy", words=(0,), policy_step=77)
    assert result.frames == () and result.summary.policy_step == 77
