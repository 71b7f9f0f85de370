"""The written-out gradient of the scan is autograd's of the plain recurrence."""

import torch
from torch import Tensor

from dreamer_core.model.distributions import CategoricalLatent
from tests.core.model.test_rssm import make_inputs, make_rssm
from tests.core.small import generator


class PlainLatent(CategoricalLatent):
    """The same family, which the scan does not know."""


def outputs_and_gradients(*, is_plain: bool) -> tuple[list[Tensor], list[Tensor]]:
    rssm = make_rssm("categorical")
    if is_plain:
        rssm.latent = PlainLatent(*rssm.latent.stats_shape)
    inputs, rng = make_inputs(rssm), generator(7)
    embed = inputs.pop("embed").requires_grad_()
    observed = rssm.observe(embed, **inputs)
    outputs = [observed.state.deter, observed.state.stoch, observed.posterior, observed.prior]
    loss = sum((x * torch.randn(x.shape, generator=rng)).sum() for x in outputs)
    return outputs, list(torch.autograd.grad(loss, [embed, *rssm.parameters()]))


def test_scan_and_plain_recurrence_agree_in_values_and_in_every_gradient():
    ours, our_gradients = outputs_and_gradients(is_plain=False)
    plain, plain_gradients = outputs_and_gradients(is_plain=True)
    for a, b in zip([*ours, *our_gradients], [*plain, *plain_gradients], strict=True):
        assert b.abs().max() > 0
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_the_scan_is_taken():
    outputs, _ = outputs_and_gradients(is_plain=False)
    assert "_Scan" in str(outputs[0].grad_fn)
    plain, _ = outputs_and_gradients(is_plain=True)
    assert "_Scan" not in str(plain[0].grad_fn)
