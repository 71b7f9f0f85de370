"""`dreamer sweep`: many runs."""

from __future__ import annotations

from dreamer_core.errors import BadInput
from services.cli.options import with_preset
from services.cli.say import say
from services.cluster import remote
from services.sweep.command import SweepCommand
from services.sweep.plan import refuse_options_of_one_run


def run(arguments: list[str]) -> int:
    """Trains many runs, and returns the exit code."""
    command = _parsed(arguments)
    from services.cli.sweeping import sweep_shown  # noqa: PLC0415 (imports numpy)

    return sweep_shown(command)


def submit(cluster: str, arguments: list[str]) -> int:
    """Starts a sweep as a job on a cluster, and returns the exit code."""
    remote.require_cluster(cluster)
    command = _parsed(arguments)
    if command.ray_address is not None:
        raise BadInput("--ray-address is the cluster's own for a sweep with --on; drop it")
    from services.sweep.games import named_games  # noqa: PLC0415 (imports the emulator)

    named_games(command.games, command.config)
    words = ["sweep", *arguments]
    if command.sweep_dir is None:
        words += ["--sweep-dir", str(command.directory)]
    code = remote.submit(cluster, words, command.directory, say)
    if code == 0 and not remote.is_relayed():
        remote.say_how_to_go_on(cluster, command.directory, say)
    return code


def _parsed(arguments: list[str]) -> SweepCommand:
    refuse_options_of_one_run(arguments)
    return with_preset(SweepCommand, arguments, "dreamer sweep PRESET")
