"""`dreamer attach`: evaluators beside a running run."""

from __future__ import annotations

from rich.console import Console

from dreamer_core.report.report import EpisodeSummary
from services.cli.parsing import parse
from services.runtime.attach_command import AttachCommand, require_running
from services.terminal.stop_request import StopRequest


def parsed(arguments: list[str]) -> AttachCommand:
    """Returns what is asked for; looks at no directory, which may be another machine's."""
    return parse(AttachCommand, arguments, "dreamer attach")


def run(arguments: list[str]) -> int:
    """Plays, and returns the exit code."""
    command = parsed(arguments)
    if command.ray_address is None:
        require_running(command.run_dir)
    from services.runtime.attach import attach  # noqa: PLC0415 (takes seconds)

    console = Console(markup=False)
    should_stop = StopRequest(lambda _: None)  # an episode under way is given up

    def on_episode(episode: EpisodeSummary, version: int) -> None:
        console.print(
            f"return {episode.episode_return:g}, {episode.length} policy steps, weights of "
            f"gradient step {version:,}",
            soft_wrap=True,
        )

    attach(
        command,
        on_episode=on_episode,
        on_start=should_stop.listen,
        should_stop=should_stop,
    )
    return should_stop.exit_code
