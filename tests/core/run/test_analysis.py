"""Analyses: each number is what a plain loop over single steps of the model computes."""

import dataclasses

import numpy as np
import pytest
import torch

from dreamer_core.agent.device import to_tensors
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.errors import BadInput
from dreamer_core.model.distributions import categorical_entropy, seeded_generator
from dreamer_core.run.analysis import (
    CONTINUATIONS,
    analyse,
    analyse_run,
    draw_sequences,
    reliability,
)
from dreamer_core.run.rollout import Rollout
from dreamer_core.seeds import Stream
from tests.core.counting_env import CountingEnvironment
from tests.core.small import (
    CONTINUOUS,
    CONTINUOUS_CONTROL,
    CPU,
    DISCRETE,
    VECTOR,
    make_agent,
    make_batch,
    make_constant,
    small,
)

CONTEXT, SEED = 3, 5


def analysed(agent, batch, **options):
    return analyse(agent, batch, **{"context": CONTEXT, "seed": SEED, "policy_step": 7, **options})


# Against a loop


def stats_of(rssm, layer, hidden):
    flat = layer(torch.nn.functional.elu(hidden))
    return flat.unflatten(-1, rssm.latent.stats_shape)


@torch.no_grad()
def slowly(agent, batch, context):
    """Sums by (name, steps ahead), and how many rows are in them: one row of one sequence each."""
    model, rssm = agent.world_model, agent.world_model.rssm
    draws = seeded_generator(CPU, SEED, Stream.ANALYSIS.word)
    size, rows = batch.reward.shape
    seeing = rssm.latent.noise((size, rows), draws)
    guessing = [rssm.latent.noise((size, rows - context), draws) for _ in range(CONTINUATIONS)]
    told = {
        name: np.zeros(rows - context)
        for name in ("image", "copy", "reward", "seen", "kl", "going", "rows")
    }
    drawn, entropies = [], []
    for i in range(size):
        seen = rssm.initial(1)
        for t in range(rows):
            if t > 0 and batch.is_first[i, t]:
                break  # another episode
            action = torch.tensor(batch.prev_action[i : i + 1, t]) * (t > 0)
            embed = model.encode(torch.tensor(batch.image[i : i + 1, t]))
            seen = rssm.observe_step(seen, action, embed, seeing[i : i + 1, t])
            hidden = rssm.posterior_hidden(torch.cat([seen.deter, embed], -1))
            posterior = stats_of(rssm, rssm.posterior_stats, hidden)
            drawn.append(seen.stoch[0].numpy())
            entropies.append(categorical_entropy(posterior)[0].numpy())
            if t < context:
                guesses = [seen] * CONTINUATIONS
                last = batch.image[i, t] / 255
                continue
            k = t - context
            guesses = [
                rssm.imagine_step(guess, action, noise[i : i + 1, k])
                for guess, noise in zip(guesses, guessing, strict=True)
            ]
            guess = guesses[0]
            prior = stats_of(rssm, rssm.prior_stats, rssm.prior_hidden(guess.deter))
            image = (model.decoder(guess.feat)[0] + 0.5).clamp(0, 1).numpy()
            true = batch.image[i, t] / 255
            told["image"][k] += ((image - true) ** 2).mean()
            told["copy"][k] += ((last - true) ** 2).mean()
            reward = np.mean([model.reward_head(g.feat).item() for g in guesses])
            going = [model.discount_head(g.feat).sigmoid().item() / model.gamma for g in guesses]
            told["going"][k] += np.minimum(going, 1).mean()
            told["reward"][k] += (reward - np.tanh(batch.reward[i, t])) ** 2
            told["seen"][k] += (
                model.reward_head(seen.feat).item() - np.tanh(batch.reward[i, t])
            ) ** 2
            told["kl"][k] += rssm.latent.kl(posterior, prior).item()
            told["rows"][k] += 1
    return told, np.array(drawn), np.array(entropies)


def test_every_mean_is_that_of_a_loop_over_single_steps():
    agent, batch = make_agent(), make_batch()  # the first sequence is reset at row 4
    quick = analysed(agent, batch)
    told, drawn, entropies = slowly(agent, batch, CONTEXT)
    assert quick.reached.tolist() == told["rows"].tolist() == [3, 2, 2, 2, 2]
    assert quick.image_error == pytest.approx(told["image"] / told["rows"], rel=1e-4)
    assert quick.copied_image_error == pytest.approx(told["copy"] / told["rows"], rel=1e-4)
    assert quick.reward_error == pytest.approx(told["reward"] / told["rows"], rel=1e-4)
    seen_reward_error = told["seen"].sum() / told["rows"].sum()
    assert quick.seen_reward_error == pytest.approx(seen_reward_error, rel=1e-4)
    overall = np.average(quick.mean_reward_error, weights=quick.reached)
    assert quick.overall_mean_reward_error == pytest.approx(overall, rel=1e-5)
    assert quick.kl == pytest.approx(told["kl"] / told["rows"], rel=1e-3)
    going = (quick.discount.predicted * quick.discount.count).sum()
    assert going == pytest.approx(told["going"].sum(), rel=1e-5)
    classes = agent.world_model.rssm.latent.stats_shape
    assert np.allclose(quick.latent_usage, drawn.mean(0).reshape(classes), atol=1e-6)
    assert np.allclose(quick.latent_entropy, entropies.mean(0), atol=1e-5)
    assert (quick.sequences, quick.context, quick.policy_step) == (3, CONTEXT, 7)


def test_long_sequences_are_predicted_a_few_at_a_time_and_come_to_the_same(monkeypatch):
    agent, batch = make_agent(), make_batch()
    at_once = analysed(agent, batch)
    monkeypatch.setattr("dreamer_core.run.analysis._ROWS_AT_ONCE", 1)
    singly = analysed(agent, batch)  # with other latents, so other samples of them
    for name in ("reached", "copied_image_error", "mean_reward_error"):
        assert np.allclose(getattr(singly, name), getattr(at_once, name))
    assert singly.image_error == pytest.approx(at_once.image_error, rel=0.2)


def test_more_rows_than_fit_are_refused():
    with pytest.raises(BadInput, match="context=5 and horizon=996: wanted 1000 or less together"):
        analyse_run("nowhere", context=5, horizon=996)


def test_one_step_ahead_the_kl_is_the_one_that_is_trained():
    agent, batch = make_agent(), make_batch(size=(2, 4))
    batch.is_first[0, 2] = False
    model = agent.world_model
    noise = model.rssm.latent.noise((2, 4), seeded_generator(CPU, SEED, Stream.ANALYSIS.word))
    with torch.no_grad():
        observed = model.observe(to_tensors(batch, CPU), noise)
    kl = model.rssm.latent.kl(observed.posterior, observed.prior)[:, 3].mean()
    assert analysed(agent, batch).kl == pytest.approx([float(kl)], rel=1e-4)


def test_rows_after_a_reset_do_not_matter():
    batch, agent = make_batch(), make_agent()
    other = make_batch()
    other.image[0, 4:], other.reward[0, 4:], other.prev_action[0, 4:] = 255, 9.0, 0.0
    other.is_terminal[0, 4:] = True
    one, two = analysed(agent, batch), analysed(agent, other)
    for name in ("image_error", "reward_error", "kl", "latent_usage", "copied_image_error"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert np.array_equal(one.discount.observed, two.discount.observed)


# Known models on counted rows


def counted_rows(steps=20, length=9, **kind):
    """Episodes of `length` policy steps whose row t holds image t and reward t."""
    env = CountingEnvironment(length, **kind)
    config = small(world_model={"reward_transform": "identity"})
    agent = make_agent(env.spec, config)
    rollout = Rollout(env, config, 0, PolicyNetwork(config, env.spec))
    return agent, rollout.run(steps, policy_step=0, weights=agent.snapshot()).chunks


def draw(chunks, count=100, context=CONTEXT, horizon=4):
    rng = np.random.default_rng(0)
    return draw_sequences(chunks, count, context=context, horizon=horizon, rng=rng)


def test_sequences_lie_within_one_episode_and_are_reset_where_it_stops():
    _, chunks = counted_rows(steps=20, length=9)
    batch = draw(chunks)
    assert batch.reward.shape == (14, 7)  # 10 rows, 10 rows and 3 rows
    steps = batch.image[..., 0, 0, 0].astype(int)
    is_there = ~batch.is_first | (np.arange(7) == 0)
    for row, there in zip(steps, is_there, strict=True):
        count = there.sum()
        assert row[:count].tolist() == list(range(row[0], row[0] + count))
        assert count == min(7, 10 - row[0]) and not there[count:].any()
    assert sorted(steps[:, 0]) == sorted(2 * list(range(7)))  # each start once
    assert batch.is_terminal.sum() == (is_there & (steps == 9)).sum() > 0
    assert (batch.prev_action.sum(-1)[is_there & (steps > 0)] == 1).all()


def test_an_episode_that_was_only_played_so_far_is_left_where_whole_sequences_end():
    _, (whole, cut) = counted_rows(steps=18, length=10)  # 11 and 9 rows
    first = draw([whole, cut]).image[:, 0, 0, 0, 0]
    assert sorted(first) == sorted([*range(8), *range(3)])
    assert sorted(draw([cut], horizon=20).image[:, 0, 0, 0, 0]) == list(range(6))  # none is whole


def test_episodes_too_short_to_imagine_anything_are_refused():
    _, chunks = counted_rows(steps=20, length=2)
    with pytest.raises(BadInput, match=r"context=3 rows.*longest of 10 .* has 3; lower"):
        draw(chunks)


def test_a_model_that_always_says_the_same_has_the_errors_of_that():
    agent, chunks = counted_rows()
    model = agent.world_model
    make_constant(model.reward_head.out, 2.0)
    make_constant(model.discount_head.out, float(torch.logit(torch.tensor(0.25 * model.gamma))))
    make_constant(model.decoder.convolutions[-1], -0.5)  # black
    batch = draw(chunks, horizon=2)
    told = analysed(agent, batch)
    steps = batch.image[:, CONTEXT:, 0, 0, 0].astype(float)
    is_there = ~batch.is_first[:, CONTEXT:]
    rewards, count = batch.reward[:, CONTEXT:], is_there.sum(0)
    for k in range(2):
        there = is_there[:, k]
        black = (steps[there, k] / 255) ** 2
        assert told.image_error[k] == pytest.approx(black.mean(), rel=1e-4)
        assert told.copied_image_error[k] == pytest.approx(((k + 1) / 255) ** 2, rel=1e-4)
        assert told.reward_error[k] == pytest.approx(((rewards[there, k] - 2) ** 2).mean())
        mean = rewards[is_there].mean()
        assert told.mean_reward_error[k] == pytest.approx(((rewards[there, k] - mean) ** 2).mean())
    ends = batch.is_terminal[:, CONTEXT:][is_there].mean()
    assert told.discount.predicted == pytest.approx([0.25])  # gamma is divided out
    assert told.discount.observed == pytest.approx([1 - ends])
    assert told.discount.count == [count.sum()]


def test_a_time_limit_is_no_end():
    agent, chunks = counted_rows(is_terminal=False)
    assert (analysed(agent, draw(chunks)).discount.observed == 1).all()


def test_without_a_discount_head_every_row_is_said_to_go_on():
    config = small(world_model={"has_discount_head": False})
    told = analysed(make_agent(config=config), make_batch())
    assert told.discount.predicted.tolist() == [1.0]
    assert told.discount.observed == pytest.approx([10 / 11])  # one of 11 rows is an end


def test_predictions_are_sorted_into_bins_and_empty_ones_left_out():
    found = reliability(np.array([0.0, 0.02, 0.5, 1.0]), np.array([False, True, True, True]))
    assert found.predicted == pytest.approx([0.01, 0.5, 1.0])
    assert found.observed.tolist() == [0.5, 1.0, 1.0]
    assert found.count.tolist() == [2, 1, 1]


# What is shown, and other kinds of agents


def test_the_example_is_the_open_loop_of_the_longest_sequence():
    agent, batch = make_agent(), make_batch()
    told = analysed(agent, batch)
    which = [np.array_equal(told.truth, image) for image in batch.image]
    assert sum(which) == 1 and not which[0] and told.truth.shape == (8, 64, 64, 1)
    alone = dataclasses.replace(
        batch,
        **{
            f.name: getattr(batch, f.name)[[which.index(True)]]
            for f in dataclasses.fields(batch)
            if getattr(batch, f.name) is not None
        },
    )
    model = agent.open_loop(alone, context=CONTEXT)[0]
    assert np.abs(told.model / 255 - model).max() < 1 / 255


def test_gaussians_have_no_classes_but_the_rest():
    agent = make_agent(CONTINUOUS, CONTINUOUS_CONTROL)
    told = analysed(agent, make_batch(CONTINUOUS))
    assert told.latent_usage.size == told.latent_entropy.size == 0
    assert (told.kl > 0).all() and told.image_error.shape == (5,)


def test_vectors_are_shown_as_bars_and_have_no_image_error():
    told = analysed(make_agent(VECTOR), make_batch(VECTOR))
    assert told.image_error.size == told.copied_image_error.size == 0
    assert told.truth.shape == told.model.shape == (8, 64, 64, 1)
    assert (told.reward_error > 0).all()


def test_the_same_seed_gives_the_same_analysis_and_the_agent_is_left_as_it_was():
    agent, batch = make_agent(DISCRETE), make_batch()
    before = agent.snapshot().params
    one, two = analysed(agent, batch), analysed(agent, batch)
    assert np.array_equal(one.kl, two.kl)
    assert not np.array_equal(one.kl, analysed(agent, batch, seed=6).kl)
    assert all(np.array_equal(before[k], v) for k, v in agent.snapshot().params.items())
