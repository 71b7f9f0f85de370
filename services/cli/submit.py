"""`dreamer submit`: a run as a job on a cluster."""

from __future__ import annotations

from dreamer_core.errors import BadInput
from services.cli.options import TrainCommand, with_preset
from services.cli.say import say
from services.cluster import remote


def run(arguments: list[str]) -> int:
    """Submits a job, and returns the exit code."""
    if arguments and arguments[0] not in ("-h", "--help"):
        cluster, *arguments = arguments
        remote.require_cluster(cluster)
    else:
        cluster = "CLUSTER"
    parsed = with_preset(TrainCommand, arguments, "dreamer submit CLUSTER PRESET")
    if parsed.services.runtime.ray_address is not None:
        raise BadInput("--runtime.ray-address is the cluster's own for a job on it; drop it")
    if parsed.config.env.suite == "atari":  # packages of other suites may be there alone
        from dreamer_core.envs.atari import find_rom  # noqa: PLC0415 (imports the emulator)

        find_rom(parsed.config.env.task)
    from dreamer_core.storage.run_directory import default_run_dir  # noqa: PLC0415 (imports numpy)

    run_dir = parsed.run_dir or default_run_dir(parsed.config)
    words = list(arguments)
    if parsed.run_dir is None:
        words += ["--run-dir", str(run_dir)]
    if not any(word.startswith("--metrics.port") for word in words):
        words += ["--metrics.port", "0"]  # several runs share the head
    code = remote.submit(cluster, ["train", *words], run_dir, say)
    if code == 0 and not remote.is_relayed():
        remote.say_how_to_go_on(cluster, run_dir, say)
    return code
