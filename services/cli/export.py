"""`dreamer export`: a trained policy or agent for elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from dreamer_core.storage.named import require_named
from services.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Writes the policy of a checkpoint as a file that needs none of this program, or the agent."""

    run: tyro.conf.Positional[str]
    """Directory of the run; also a checkpoint, a directory or URL of checkpoints, or `demo`."""
    to: Path
    """The file: .onnx, or .pt2 for torch.export.load. Without such an ending a new directory, which
    holds world model, actor and critic as safetensors and is read as a run by eval, watch and
    --from."""
    checkpoint: int | None = None
    """Gradient steps of the checkpoint; by default the newest that is whole."""


def run(arguments: list[str]) -> int:
    """Exports, and returns the exit code."""
    command = parse(ExportCommand, arguments, "dreamer export")
    require_named(command.run)  # what is not there is told before PyTorch is loaded
    console = Console(markup=False)
    if not command.to.suffix:
        from dreamer_core.run.handed_on import hand_on  # noqa: PLC0415 (takes seconds)

        agent = hand_on(command.run, command.to, step=command.checkpoint)
        console.print(f"agent of gradient step {agent.step:,} {agent.location}", soft_wrap=True)
        return 0
    from dreamer_core.run.export import export_policy  # noqa: PLC0415 (takes seconds)

    exported = export_policy(command.run, command.to, step=command.checkpoint)
    console.print(f"policy of gradient step {exported.facts['gradient_step']:,} {exported.path}")
    for name, shape in exported.facts["shapes"].items():
        console.print(f"  {name:<12} {' x '.join(map(str, shape))}", highlight=False)
    return 0
