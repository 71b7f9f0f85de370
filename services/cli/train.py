"""`dreamer train`: through the services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.options import TrainCommand, with_preset

if TYPE_CHECKING:
    from dreamer_core.run.front import RunResult
    from services.cli.training import TrainFunction
    from services.terminal.display import Display
    from services.terminal.stop_request import StopRequest


def run(arguments: list[str]) -> int:
    """Trains, and returns the exit code."""
    command = with_preset(TrainCommand, arguments, "dreamer train PRESET")
    config, services = command.config, command.services
    from services.cli.training import train_shown  # noqa: PLC0415 (imports numpy)

    def load() -> TrainFunction:
        from services.runtime import run as runtime  # noqa: PLC0415 (takes seconds)

        def start(run_dir: Path, display: Display, should_stop: StopRequest) -> RunResult:
            def on_start(metrics_url: str) -> None:
                should_stop.listen()
                display.set_metrics_url(metrics_url)

            return runtime.train(
                config,
                services,
                run_dir,
                observe=display.update,
                on_start=on_start,
                should_stop=should_stop,
            )

        return start

    return train_shown(config, command.run_dir, load, command.log_format)
