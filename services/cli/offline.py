"""`dreamer offline`: from a fixed replay, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer_core.config_offline import OfflineConfig
from dreamer_core.errors import BadInput
from services.cli.options import OfflineCommand, with_preset

if TYPE_CHECKING:
    from dreamer_core.run.front import RunResult
    from services.cli.training import TrainFunction
    from services.terminal.display import Display
    from services.terminal.stop_request import StopRequest


def run(arguments: list[str]) -> int:
    """Trains, and returns the exit code."""
    command = with_preset(OfflineCommand, arguments, "dreamer offline PRESET")
    if not command.replay:
        raise BadInput("Wanted --replay DIR...: run directories, or their replay directories")
    named = OfflineConfig(replays=tuple(str(path) for path in command.replay))
    config = replace(command.trained, offline=named)
    from services.cli.training import train_shown  # noqa: PLC0415 (imports numpy)

    def load() -> TrainFunction:
        from dreamer_core.run.offline import train_offline  # noqa: PLC0415 (takes seconds)

        def start(run_dir: Path, display: Display, should_stop: StopRequest) -> RunResult:
            return train_offline(
                config,
                run_dir,
                command.replay,
                actions=command.actions,
                observe=display.update,
                should_stop=should_stop,
            )

        return start

    return train_shown(config, command.run_dir, load, command.log_format)
