"""Vectors in the world model, against a slow version in float64: embedding, decoding and loss."""

import numpy as np
import pytest
import torch

from dreamer_core.model.networks import image_to_float
from tests.core.small import (
    BOTH,
    DISCRETE,
    VECTOR,
    elu,
    generator,
    gradient_size,
    make_tensors,
    make_world_model,
    model_loss,
    small,
    to_float64,
)

SPECS = pytest.mark.parametrize("spec", [BOTH, VECTOR])
SIZES = small(world_model={"head_layers": 3, "head_units": 9})


def make_example(spec):
    return make_world_model(SIZES, spec), make_tensors(spec)


def slow_layers(module, x):
    for layer in module.hidden:
        x = elu(x @ to_float64(layer.weight).T + to_float64(layer.bias))
    return x


def slow_mlp(module, x):
    return slow_layers(module, x) @ to_float64(module.out.weight).T + to_float64(module.out.bias)


@SPECS
def test_a_vector_is_embedded_by_dense_layers_behind_the_image(spec):
    model, data = make_example(spec)
    embed = to_float64(model.encode(data.image, data.vector))
    by_hand = slow_layers(model.vector_encoder, to_float64(data.vector))
    np.testing.assert_allclose(embed[..., -9:], by_hand, rtol=1e-4, atol=1e-6)
    image = to_float64(model.encoder(image_to_float(data.image)))
    assert embed.shape[-1] == image.shape[-1] + 9
    assert (embed[..., :-9] == image).all()


def test_without_an_image_the_vector_is_all_that_is_embedded_and_predicted():
    model, data = make_example(VECTOR)
    assert model.encode(data.image, data.vector).shape == (3, 8, 9)
    assert model.decoder is None and not list(model.encoder.parameters())
    assert "image" not in model_loss(model, data).terms


@SPECS
def test_the_vector_loss_is_that_of_a_gaussian_of_unit_variance(spec):
    model, data = make_example(spec)
    loss = model_loss(model, data)
    mean = slow_mlp(model.vector_decoder, to_float64(loss.observed.state.feat))
    by_hand = 0.5 * ((to_float64(data.vector) - mean) ** 2).sum(-1).mean()
    assert loss.terms["vector"].item() == pytest.approx(by_hand, rel=1e-4)


@SPECS
def test_the_vector_loss_has_weight_1_in_the_total(spec):
    model, data = make_example(spec)
    config, loss = model.config, model_loss(model, data)
    weights = {"reward": config.reward_loss_scale, "discount": config.discount_loss_scale}
    weights["kl"] = config.kl_scale
    by_hand = sum(weights.get(name, 1.0) * term.item() for name, term in loss.terms.items())
    assert loss.total.item() == pytest.approx(by_hand, rel=1e-5)


@SPECS
def test_the_loss_reaches_every_parameter_and_the_vector_encoder_by_the_samples(spec):
    model, data = make_example(spec)
    loss = model_loss(model, data)
    gradients = torch.autograd.grad(
        loss.total, list(model.parameters()), retain_graph=True, allow_unused=True
    )
    names = [name for name, _ in model.named_parameters()]
    assert [n for n, g in zip(names, gradients, strict=True) if g is None or not g.any()] == []
    assert gradient_size(loss.terms["vector"], model.vector_encoder) > 0


def test_observations_that_do_not_shape_the_representation_include_the_vector():
    model = make_world_model(small(world_model={"has_image_gradients": False}), VECTOR)
    loss = model_loss(model, make_tensors(VECTOR))
    assert gradient_size(loss.terms["vector"], model.vector_encoder) == 0
    assert gradient_size(loss.terms["vector"], model.vector_decoder) > 0


def test_a_model_of_images_alone_has_no_part_for_vectors():
    model = make_world_model(small(), DISCRETE)
    assert not [name for name, _ in model.named_parameters() if "vector" in name]


@SPECS
def test_open_loop_sees_no_vector_behind_its_context(spec):
    model = make_world_model(small(world_model={"latent": "gaussian"}), spec)
    data = make_tensors(spec)
    data.is_first[0, 4] = False
    noise = model.rssm.latent.noise((3, 8), generator())
    before = model.open_loop(data, noise, context=5).vector
    data.vector[:, 5:] = 0
    assert torch.equal(model.open_loop(data, noise, context=5).vector, before)
    data.vector[:, 4] = 0
    assert not torch.equal(model.open_loop(data, noise, context=5).vector, before)
