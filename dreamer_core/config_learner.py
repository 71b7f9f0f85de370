"""Settings of the process that computes gradients; none of them changes the algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer_core.fields import require, require_positive, require_types, setting

_OURS = "this project; does not change the algorithm"
_MAX_THREADS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Where and how gradients are computed. No setting here changes the algorithm."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", _OURS)
    """`auto` takes CUDA where there is any."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = setting("auto", _OURS)
    """Of matrix products and convolutions; `auto` takes bfloat16 on CUDA cards that have it.
    Parameters, outputs of heads, softmax, LayerNorm and losses are float32 whatever it is."""
    execution: Literal["auto", "eager", "captured", "compiled"] = setting("auto", _OURS)
    """Of a gradient step on CUDA: operator by operator, as one CUDA graph, or as one graph of
    kernels fused by torch.compile; `auto` takes the last that the machine can."""
    policy_device: Literal["auto", "cpu"] = setting("auto", _OURS)
    """Where the policy of `dreamer local` acts: `auto` is on the learner's card, if it has one."""
    num_threads: int = setting(2, _OURS)
    """CPU threads of each process of the learner. Losses are bit for bit the same only for the same
    numbers of threads and processes."""
    num_processes: int = setting(1, _OURS)
    """Processes that share the sequences of a batch where gradients are computed on a CPU; more
    processes of one thread are faster than one of more threads where the model is small."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "num_threads", "num_processes")
        for name in ("num_threads", "num_processes"):
            count = getattr(self, name)
            require(count <= _MAX_THREADS, f"{name}={count} must be {_MAX_THREADS} or less")
