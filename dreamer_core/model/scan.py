"""The recurrence of `RSSM.observe` with its gradient written out.

Autograd would multiply small matrices for every weight in every time step and add up the results.
Here the backward recurrence carries only what is sequential, the gradient of the state; those of
the weights are one product each over all B and T at the end. Same function, same gradient; the
plain form is `RSSM._observe_plain`.

Shapes as elsewhere, time first inside: [T, B, ...].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class ScanWeights(NamedTuple):
    """The parameters inside the recurrence; all matrices [outputs, inputs]."""

    stoch: Tensor
    """Input layer's part for z [hidden, Z]."""
    gates: Tensor
    """GRU [3 D, hidden + D]."""
    gates_bias: Tensor
    norm: Tensor
    """LayerNorm scale [3 D]."""
    norm_bias: Tensor
    deter: Tensor
    """Posterior layer's part for h [hidden, D]."""
    stats: Tensor
    """Logits [S C, hidden]."""
    stats_bias: Tensor


class Scanned(NamedTuple):
    """What the scan returns; [B, T, ...]."""

    deter: Tensor
    stoch: Tensor
    logits: Tensor


class ScanSteps:
    """One time step forward and one backward; attributes, so that compiled forms can take over."""

    def __init__(self) -> None:
        self.forward = _forward_step
        self.backward = _backward_step


def observe_scan(
    keep: Tensor,
    action_part: Tensor,
    embed_part: Tensor,
    noise: Tensor,
    weights: ScanWeights,
    *,
    epsilon: float,
    steps: ScanSteps,
) -> Scanned:
    """Filters sequences from the zero state with categorical latents and a LayerNorm GRU.

    Args:
        keep: 0.0 where the state before a row is zeroed, else 1.0, [B, T, 1].
        action_part: of the input layer [B, T, hidden], bias included.
        embed_part: of the posterior layer [B, T, hidden], bias included.
        noise: Exponential(1) [B, T, S, C].
        weights: of the recurrence.
        epsilon: of the LayerNorm.
        steps: what computes each time step.

    Returns:
        h [B, T, D], z [B, T, S C], logits [B, T, S, C]; gradients reach weights and both parts.
    """
    return Scanned(*_Scan.apply(steps, epsilon, keep, noise, action_part, embed_part, *weights))


class _Step(NamedTuple):
    """One time step, as the backward recurrence needs it."""

    x: Tensor
    """ELU of the input layer [B, hidden]."""
    gates: Tensor
    """GRU before LayerNorm [B, 3 D]."""
    normed: Tensor
    mean: Tensor
    rstd: Tensor
    deter: Tensor
    q: Tensor
    """ELU of the posterior layer [B, hidden]."""
    logits: Tensor
    """[B, S, C]."""
    stoch: Tensor


def _forward_step(
    deter: Tensor,
    stoch: Tensor,
    *,
    keep: Tensor,
    action_part: Tensor,
    embed_part: Tensor,
    noise: Tensor,
    weights: ScanWeights,
    epsilon: float,
) -> _Step:
    dtype = weights.stoch.dtype
    deter = deter * keep
    x = F.elu(action_part + (stoch * keep).to(dtype) @ weights.stoch.t())
    gates = F.linear(torch.cat([x.to(dtype), deter.to(dtype)], -1), weights.gates).float()
    gates = gates + weights.gates_bias
    normed, mean, rstd = torch.native_layer_norm(
        gates, [gates.shape[-1]], weights.norm, weights.norm_bias, epsilon
    )
    reset, candidate, update = normed.chunk(3, -1)
    candidate = torch.tanh(torch.sigmoid(reset) * candidate)
    deter = torch.lerp(deter, candidate, torch.sigmoid(update - 1))
    q = F.elu(embed_part + deter.to(dtype) @ weights.deter.t())
    with torch.autocast(q.device.type, enabled=False):
        logits = q.float() @ weights.stats.t() + weights.stats_bias
    logits = logits.view(noise.shape)
    index = (logits.softmax(-1) / noise).argmax(-1, keepdim=True)
    stoch = torch.zeros_like(logits).scatter_(-1, index, 1.0).flatten(-2)
    return _Step(x, gates, normed, mean, rstd, deter, q, logits, stoch)


class _Slopes(NamedTuple):
    """What the backward recurrence multiplies with; of all steps at once, since none depends on it.

    Slopes are of one layer's output by its input, elementwise.
    """

    x: Tensor
    """ELU of the input layer [B, hidden]."""
    gates: Tensor
    """Of h' by the normed gates [B, 3, D]."""
    q: Tensor
    """ELU of the posterior layer [B, hidden]."""
    probs: Tensor
    """Of the posterior [B, S, C]."""
    carry: Tensor
    """Of h' by h, past the gates [B, D]."""


def _slopes(steps: _Step, before: Tensor) -> _Slopes:
    """Slopes of steps [..., B, :] with h before each, zeroed where a row is the first."""
    reset, candidate, update = steps.normed.chunk(3, -1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    mixed = torch.tanh(reset * candidate)
    by_product = update * (1 - mixed * mixed)
    gates = [
        by_product * candidate * reset * (1 - reset),
        by_product * reset,
        (mixed - before) * update * (1 - update),
    ]
    return _Slopes(
        x=_elu_slope(steps.x),
        gates=torch.stack(gates, -2),
        q=_elu_slope(steps.q),
        probs=steps.logits.softmax(-1),
        carry=1 - update,
    )


class _StepGradient(NamedTuple):
    """Gradients of one time step's layers before their nonlinearity, and of the state before."""

    input: Tensor
    gates: Tensor
    normed: Tensor
    hidden: Tensor
    logits: Tensor
    deter_before: Tensor
    stoch_before: Tensor


def _backward_step(
    step: _Step,
    slopes: _Slopes,
    *,
    keep: Tensor,
    to_deter: Tensor,
    to_stoch: Tensor,
    to_logits: Tensor,
    carried_deter: Tensor,
    carried_stoch: Tensor,
    weights: ScanWeights,
) -> _StepGradient:
    """Pulls the gradients of h_t, z_t and the logits back through step t.

    Those of h_t and z_t are `to_` from outside and `carried_` from step t + 1.

    A sample passes its gradient on as if it were the probabilities (Algorithm 1):
        d logits = probs * (d z - sum_C(d z * probs))
    """
    dtype = weights.stoch.dtype
    to_deter = to_deter + carried_deter
    to_sample = (to_stoch + carried_stoch).view(step.logits.shape)
    weighted = (to_sample * slopes.probs).sum(-1, keepdim=True)
    to_logits = (to_logits + slopes.probs * (to_sample - weighted)).flatten(-2)
    to_hidden = (to_logits @ weights.stats) * slopes.q
    to_deter = to_deter + (to_hidden.to(dtype) @ weights.deter).float()
    to_normed = (to_deter.unsqueeze(-2) * slopes.gates).flatten(-2)
    to_gates = torch.ops.aten.native_layer_norm_backward(
        to_normed,
        step.gates,
        [step.gates.shape[-1]],
        step.mean,
        step.rstd,
        weights.norm,
        weights.norm_bias,
        [True, False, False],
    )[0]
    to_x, to_before = (
        (to_gates.to(dtype) @ weights.gates).float().tensor_split([step.x.shape[-1]], -1)
    )
    to_input = to_x * slopes.x
    return _StepGradient(
        input=to_input,
        gates=to_gates,
        normed=to_normed,
        hidden=to_hidden,
        logits=to_logits,
        deter_before=keep * (to_before + to_deter * slopes.carry),
        stoch_before=keep * (to_input.to(dtype) @ weights.stoch).float(),
    )


def _elu_slope(result: Tensor) -> Tensor:
    """Slope of an ELU (alpha 1), from its result."""
    return result.clamp(max=0) + 1


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, steps: ScanSteps, epsilon: float, keep: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        noise, action_part, embed_part, *weights = tensors
        scan_weights = _computed_in(action_part.dtype, ScanWeights(*weights))
        deter = keep.new_zeros(len(keep), scan_weights.deter.shape[1])
        stoch = keep.new_zeros(len(keep), scan_weights.stoch.shape[1])
        taken: list[_Step] = []
        for t in range(keep.shape[1]):
            step = steps.forward(
                deter,
                stoch,
                keep=keep[:, t],
                action_part=action_part[:, t],
                embed_part=embed_part[:, t],
                noise=noise[:, t],
                weights=scan_weights,
                epsilon=epsilon,
            )
            deter, stoch = step.deter, step.stoch
            taken.append(step)
        stacked = _Step(*(torch.stack(values) for values in zip(*taken, strict=True)))
        ctx.steps = steps
        ctx.save_for_backward(keep, *stacked, *weights)
        ctx.dtype = action_part.dtype
        outputs = (stacked.deter, stacked.stoch, stacked.logits)
        return tuple(x.transpose(0, 1).contiguous() for x in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        keep, *saved = ctx.saved_tensors
        split = len(_Step._fields)
        stacked, plain_weights = _Step(*saved[:split]), ScanWeights(*saved[split:])
        weights = _computed_in(ctx.dtype, plain_weights)
        keep = keep.transpose(0, 1)
        to_deter, to_stoch, to_logits = (x.transpose(0, 1) for x in gradients)
        found: list[_StepGradient] = []
        before = torch.cat([torch.zeros_like(stacked.deter[:1]), stacked.deter[:-1]]) * keep
        slopes = _slopes(stacked, before)
        carried_deter = torch.zeros_like(stacked.deter[0])
        carried_stoch = torch.zeros_like(stacked.stoch[0])
        for t in reversed(range(len(keep))):
            gradient = ctx.steps.backward(
                _Step(*(x[t] for x in stacked)),
                _Slopes(*(x[t] for x in slopes)),
                keep=keep[t],
                to_deter=to_deter[t],
                to_stoch=to_stoch[t],
                to_logits=to_logits[t],
                carried_deter=carried_deter,
                carried_stoch=carried_stoch,
                weights=weights,
            )
            carried_deter, carried_stoch = gradient.deter_before, gradient.stoch_before
            found.append(gradient)
        stacked_gradient = _StepGradient(
            *(torch.stack(values[::-1]) for values in zip(*found, strict=True))
        )
        return (
            None,
            None,
            None,
            None,
            stacked_gradient.input.transpose(0, 1).to(ctx.dtype),
            stacked_gradient.hidden.transpose(0, 1).to(ctx.dtype),
            *_weight_gradients(stacked, stacked_gradient, before, keep, weights),
        )


def _weight_gradients(
    steps: _Step, gradients: _StepGradient, deter_before: Tensor, keep: Tensor, weights: ScanWeights
) -> ScanWeights:
    """Gradients of the parameters, each one product over all T and B."""
    dtype = weights.stoch.dtype

    def product(gradient: Tensor, inputs: Tensor) -> Tensor:
        return (gradient.flatten(0, 1).to(dtype).t() @ inputs.flatten(0, 1).to(dtype)).float()

    stoch_before = torch.cat([torch.zeros_like(steps.stoch[:1]), steps.stoch[:-1]]) * keep
    norm, norm_bias = torch.ops.aten.native_layer_norm_backward(
        gradients.normed,
        steps.gates,
        [steps.gates.shape[-1]],
        steps.mean,
        steps.rstd,
        weights.norm,
        weights.norm_bias,
        [False, True, True],
    )[1:]
    return ScanWeights(
        stoch=product(gradients.input, stoch_before),
        gates=product(gradients.gates, torch.cat([steps.x.float(), deter_before], -1)),
        gates_bias=gradients.gates.sum((0, 1)),
        norm=norm,
        norm_bias=norm_bias,
        deter=product(gradients.hidden, steps.deter),
        stats=gradients.logits.flatten(0, 1).t() @ steps.q.flatten(0, 1).float(),
        stats_bias=gradients.logits.sum((0, 1)),
    )


def _computed_in(dtype: torch.dtype, weights: ScanWeights) -> ScanWeights:
    """The matrices in the dtype of the products; biases, LayerNorm and logits stay float32."""
    matrices = {"stoch", "gates", "deter"}
    return ScanWeights(
        **{
            name: value.to(dtype) if name in matrices else value
            for name, value in weights._asdict().items()
        }
    )
