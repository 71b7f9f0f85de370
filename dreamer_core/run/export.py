"""A trained policy as one file for other programs: ONNX, or a program of torch.export.

One call is one policy step of one environment:

    image          uint8 [1, 64, 64, C]    as training saw it: resized, gray if `is_grayscale`
    vector         float32 [1, V]          where the agent sees one; without an image no `image`
    prev_action    float32 [1, A]          `action` of the step before
    deter, stoch   float32 [1, D], [1, Z]  `next_deter`, `next_stoch` of the step before
    is_first       bool [1]                an episode begins: the three above do not count
    noise          float32 [1, S, C]       of the latent's sample

    action         float32 [1, A]          the actor's mode: one-hot, or in [-1, 1]
    next_deter, next_stoch

All randomness comes in through `noise`: Exponential(1) samples the latent, as training and `Policy`
do; ones take its mode. Of Gaussian latents it is [1, S]: standard normal, and zeros.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.config import Config
from dreamer_core.errors import BadInput, naming
from dreamer_core.files import write_whole
from dreamer_core.model.rssm import RSSMState
from dreamer_core.run.restored import weights_in
from dreamer_core.storage.identity import saved_config, saved_spec
from dreamer_core.storage.named import load_named

OUTPUTS = ("action", "next_deter", "next_stoch")
FACTS = "dreamer"
"""Key of the facts, as JSON, in the metadata of an .onnx and, with `.json`, in a .pt2."""
_NEEDED: dict[str, tuple[str, ...]] = {".onnx": ("onnx", "onnxscript"), ".pt2": ()}


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written."""

    path: Path
    facts: dict[str, Any]
    """Run, gradient step, sizes; what the file says of itself."""


class PolicyStep(nn.Module):
    """One step of a policy as a pure function of its inputs; see the chart of this module."""

    def __init__(self, policy: PolicyNetwork) -> None:
        super().__init__()
        self.policy = policy
        for parameter in policy.parameters():  # laid out for acting here, which no file keeps
            parameter.data = parameter.data.contiguous()

    def forward(
        self,
        *,
        image: Tensor | None = None,
        vector: Tensor | None = None,
        prev_action: Tensor,
        deter: Tensor,
        stoch: Tensor,
        is_first: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns action, next_deter and next_stoch."""
        policy, keep = self.policy, (~is_first).float().unsqueeze(-1)  # [1, 1]
        if image is None:
            image = deter.new_zeros((1, *policy.spec.image_shape))  # of no channels
        embed = policy.embed(image, vector)  # [1, E]
        before = RSSMState(deter * keep, stoch * keep)
        state = policy.rssm.observe_step(before, prev_action * keep, embed, noise)
        return policy.actions.mode(policy.actor(state.feat)), state.deter, state.stoch


def export_policy(trained: str | Path, to: str | Path, *, step: int | None = None) -> Exported:
    """Writes the policy of a checkpoint as a file that needs none of this program.

    Args:
        trained: as in `load_named`.
        to: the file; .onnx, which wants the extra `export`, or .pt2 for `torch.export.load`.
        step: gradient steps of the checkpoint; None for the newest that is whole.

    Raises:
        BadInput: there is no such checkpoint, the file cannot be written, or a package is missing.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`. Failed: the disk is full.
    """
    to = Path(to)
    _require_packages(to)
    found = load_named(trained, step)
    config = saved_config(found.facts, found.location)
    policy = PolicyNetwork(config, saved_spec(found.facts, found.location))
    policy.load(weights_in(found, policy))
    facts = _facts(config, policy, found.step)
    with _quiet(), torch.enable_grad():  # without gradients it would be the acting of this program
        program = torch.export.export(PolicyStep(policy).eval(), (), _example(policy))
        content = _ENCODERS[to.suffix](program, facts)
    with naming(f"write the policy to {to}", "Name another file with --to"):
        write_whole(to, content)
    return Exported(to, facts)


def _require_packages(to: Path) -> None:
    if to.suffix not in _NEEDED:
        raise BadInput(
            f"--to {to}: wanted a name that ends in {' or '.join(_NEEDED)}, or of a directory, "
            "without an ending, for the whole agent"
        )
    missing = [name for name in _NEEDED[to.suffix] if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"--to {to}: to write {to.suffix} takes {' and '.join(missing)}, not installed here: "
            "`pip install -c constraints.txt -e '.[export]'`, or write a .pt2"
        )


def _example(policy: PolicyNetwork) -> dict[str, Tensor]:
    """Inputs of the right shapes."""
    spec, initial = policy.spec, policy.initial()
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros((1, *spec.image_shape), dtype=torch.uint8)
    return {
        **({"image": image} if image.numel() else {}),
        **({"vector": torch.zeros(1, spec.vector_size)} if spec.vector_size else {}),
        "prev_action": initial.action,
        "deter": initial.model.deter,
        "stoch": initial.model.stoch,
        "is_first": torch.ones(1, dtype=torch.bool),
        "noise": policy.rssm.latent.noise((1,), generator),
    }


def _facts(config: Config, policy: PolicyNetwork, step: int) -> dict[str, Any]:
    spec = policy.spec
    return {
        "suite": config.env.suite,
        "task": config.env.task,
        "gradient_step": step,
        "action_repeat": config.env.action_repeat,
        "is_grayscale": config.env.is_grayscale,
        "is_discrete": spec.is_discrete,
        "action_classes": spec.action_classes,
        "latent": config.world_model.latent,
        "shapes": {name: list(value.shape) for name, value in _example(policy).items()},
    }


def _onnx(program: torch.export.ExportedProgram, facts: dict[str, Any]) -> bytes:
    exported: Any = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(facts["shapes"]),
        output_names=OUTPUTS,
        external_data=False,
        verbose=False,
    )
    model: Any = exported.model_proto
    model.metadata_props.add(key=FACTS, value=json.dumps(facts))
    return model.SerializeToString()


def _pt2(program: torch.export.ExportedProgram, facts: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={f"{FACTS}.json": json.dumps(facts)})
    return content.getvalue()


_ENCODERS = {".onnx": _onnx, ".pt2": _pt2}


@contextmanager
def _quiet() -> Generator[None]:
    """Keeps to itself what torch says of its own deprecations and of packages that it lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
