"""Recurrent state-space model: resets, alignment, and the scan against a plain loop of steps."""

from dataclasses import replace

import pytest
import torch

from dreamer_core.model.distributions import CategoricalLatent, GaussianLatent
from dreamer_core.model.rssm import RSSM, Observed, RSSMState
from tests.core.small import generator, small

EMBED, ACTION, B, T = 6, 3, 2, 7
LATENTS = ["categorical", "gaussian"]


def make_rssm(latent: str) -> RSSM:
    torch.manual_seed(0)
    return RSSM(replace(small().world_model, latent=latent), EMBED, ACTION)


def make_inputs(rssm: RSSM, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = generator(seed)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 0] = is_first[0, 4] = True
    return {
        "embed": torch.randn(B, T, EMBED, generator=rng),
        "prev_action": torch.randn(B, T, ACTION, generator=rng),
        "is_first": is_first,
        "noise": rssm.latent.noise((B, T), rng),
    }


def assert_rows_equal(ours: Observed, theirs: Observed, sequence: int, rows: slice) -> None:
    for a, b in [
        (ours.state.feat, theirs.state.feat),
        (ours.posterior, theirs.posterior),
        (ours.prior, theirs.prior),
    ]:
        assert torch.equal(a[sequence, rows], b[sequence, rows])


@pytest.mark.parametrize("latent", LATENTS)
def test_observe_equals_a_loop_of_single_steps(latent):
    rssm = make_rssm(latent)
    inputs = make_inputs(rssm)
    observed = rssm.observe(**inputs)
    state = rssm.initial(B)
    for t in range(T):
        keep = (~inputs["is_first"][:, t]).float()[:, None]
        state = RSSMState(state.deter * keep, state.stoch * keep)
        action, embed = inputs["prev_action"][:, t] * keep, inputs["embed"][:, t]
        state = rssm.observe_step(state, action, embed, inputs["noise"][:, t])
        assert torch.allclose(observed.state.feat[:, t], state.feat, atol=1e-5)
        assert torch.allclose(observed.prior[:, t], rssm.prior(state.deter), atol=1e-5)


@pytest.mark.parametrize("latent", LATENTS)
def test_rows_after_a_reset_do_not_depend_on_rows_before(latent):
    rssm = make_rssm(latent)
    inputs = make_inputs(rssm)
    before = rssm.observe(**inputs)
    for name in ("embed", "prev_action", "noise"):
        inputs[name][:, :4] += 0.5
    after = rssm.observe(**inputs)
    assert_rows_equal(before, after, 0, slice(4, T))
    assert not torch.equal(before.posterior[1, 4:], after.posterior[1, 4:])  # has no reset there


@pytest.mark.parametrize("latent", LATENTS)
def test_a_reset_inside_a_sequence_equals_the_start_of_another(latent):
    rssm = make_rssm(latent)
    inputs = make_inputs(rssm)
    whole = rssm.observe(**inputs)
    tail = rssm.observe(**{name: value[:, 4:] for name, value in inputs.items()})
    assert torch.allclose(whole.state.feat[0, 4:], tail.state.feat[0], atol=1e-6)


def test_the_action_before_a_reset_does_not_count():
    rssm = make_rssm("categorical")
    inputs = make_inputs(rssm)
    before = rssm.observe(**inputs)
    inputs["prev_action"][inputs["is_first"]] = 100.0
    after = rssm.observe(**inputs)
    assert_rows_equal(before, after, 0, slice(None))


def test_a_state_depends_on_its_own_prev_action_and_not_on_the_next_one():
    rssm = make_rssm("gaussian")
    inputs = make_inputs(rssm)
    before = rssm.observe(**inputs)
    inputs["prev_action"][1, 3] += 1.0
    after = rssm.observe(**inputs)
    assert_rows_equal(before, after, 1, slice(0, 3))
    assert not torch.equal(before.state.deter[1, 3], after.state.deter[1, 3])


def test_the_prior_does_not_see_the_image_of_its_own_row():
    rssm = make_rssm("gaussian")
    inputs = make_inputs(rssm)
    before = rssm.observe(**inputs)
    inputs["embed"][1, 3] += 1.0
    after = rssm.observe(**inputs)
    assert torch.equal(before.prior[1, :4], after.prior[1, :4])
    assert not torch.equal(before.posterior[1, 3], after.posterior[1, 3])
    assert not torch.equal(before.prior[1, 4], after.prior[1, 4])


@pytest.mark.parametrize("latent", LATENTS)
def test_imagining_follows_the_prior_of_the_next_state(latent):
    rssm = make_rssm(latent)
    start, action = rssm.initial(B), torch.randn(B, ACTION, generator=generator())
    noise = rssm.latent.noise((B,), generator(1))
    imagined = rssm.imagine_step(start, action, noise)
    observed = rssm.observe_step(start, action, torch.zeros(B, EMBED), noise)
    assert torch.equal(imagined.deter, observed.deter)
    assert torch.equal(imagined.stoch, rssm.latent.sample(rssm.prior(imagined.deter), noise))


def test_gradients_flow_back_through_time_and_stop_at_a_reset():
    rssm = make_rssm("categorical")
    inputs = make_inputs(rssm)
    inputs["embed"].requires_grad_()
    last = rssm.observe(**inputs).state.deter[:, -1].square().sum()
    gradient = torch.autograd.grad(last, inputs["embed"])[0].abs().sum(-1)
    assert (gradient[1, :-1] > 0).all()
    assert (gradient[0, :4] == 0).all() and (gradient[0, 4:-1] > 0).all()


def test_the_config_chooses_the_family_of_latents():
    categorical, gaussian = make_rssm("categorical"), make_rssm("gaussian")
    assert isinstance(categorical.latent, CategoricalLatent)
    assert isinstance(gaussian.latent, GaussianLatent)
    assert (categorical.feat_size, gaussian.feat_size) == (16 + 4 * 4, 16 + 4)


def test_a_feature_is_the_recurrent_state_then_the_latent():
    state = RSSMState(torch.tensor([1.0, 2.0]), torch.tensor([3.0]))
    assert state.feat.tolist() == [1, 2, 3]
