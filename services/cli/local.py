"""`dreamer local`: in this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.options import LocalCommand, with_preset

if TYPE_CHECKING:
    from dreamer_core.run.front import RunResult
    from services.cli.training import TrainFunction
    from services.terminal.display import Display
    from services.terminal.stop_request import StopRequest


def run(arguments: list[str]) -> int:
    """Trains, and returns the exit code."""
    command = with_preset(LocalCommand, arguments, "dreamer local PRESET")
    from services.cli.training import train_shown  # noqa: PLC0415 (imports numpy)

    def load() -> TrainFunction:
        from dreamer_core.run.local import train_local  # noqa: PLC0415 (takes seconds)

        def start(run_dir: Path, display: Display, should_stop: StopRequest) -> RunResult:
            config = command.config
            return train_local(config, run_dir, observe=display.update, should_stop=should_stop)

        return start

    return train_shown(command.config, command.run_dir, load, command.log_format)
