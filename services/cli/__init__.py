"""The command `dreamer`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from dreamer_core.config import Config
from dreamer_core.errors import BUG_EXIT, BadInput, DreamerError, Failed, naming
from dreamer_core.presets import PRESETS
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.front import RunResult
from dreamer_core.run.local import train_local
from dreamer_core.storage.run_directory import default_run_dir
from dreamer_core.types import EpisodeSummary
from services.cli import presets as preset_command
from services.cli import replay as replay_command
from services.cli.presets import with_preset
from services.cluster import remote
from services.runtime.config import ServiceConfig
from services.terminal import control
from services.terminal.display import Display
from services.terminal.status import render_status
from services.terminal.stop_request import INTERRUPTED_EXIT, StopRequest

_ANYWHERE = ("attach", "eval", "logs", "replay", "status", "stop")
"""Commands that take `--on CLUSTER`."""
_ON_HELP = """\
With --on CLUSTER, the .yaml file of `ray up` or http://HOST:8265, the command runs on that
cluster's head, and RUN_DIR is a directory there.

"""
Root = tyro.conf.arg(name="")
"""Marks a config whose fields are options without a prefix."""


@dataclass(frozen=True, kw_only=True)
class LocalCommand:
    """Trains a preset in this process, without Ray; resumes if the run directory holds the run."""

    config: Annotated[Config, Root] = field(default_factory=Config)
    run_dir: Path | None = None
    """Everything is written here; by default runs/PRESET_TASK_SEED."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Trains a preset through the services; resumes if the run directory holds the run."""

    config: Annotated[Config, Root] = field(default_factory=Config)
    services: Annotated[ServiceConfig, Root] = field(default_factory=ServiceConfig)
    run_dir: Path | None = None
    """Everything is written here; by default runs/PRESET_TASK_SEED."""


@dataclass(frozen=True, kw_only=True)
class EvalCommand:
    """Plays episodes with a run's newest checkpoint and prints their returns."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    episodes: int = 5
    """Episodes to play."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    video: Path | None = None
    """Writes the first episode to this .mp4 or .gif."""
    seed: int = 0
    """Of environment and samples."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise BadInput(f"--episodes {self.episodes}: wanted 1 or more")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")
        if self.video is not None and self.video.suffix not in (".mp4", ".gif"):
            raise BadInput(f"--video {self.video}: wanted a name that ends in .mp4 or .gif")


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Prints where a run stands, running or not."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""


USAGE = """\
dreamer trains DreamerV2 agents inside their own world model.

  dreamer train PRESET [--run-dir DIR] [--env.task GAME] [--seed N] [--steps N] [--lockstep] ...
                           train through the services (Ray); resumes if DIR holds the run
  dreamer local PRESET [--run-dir DIR] ...
                           the same algorithm in one process, without Ray
  dreamer sweep PRESET --games all|pong,boxing --seeds N [--gpus-per-run 0.25] ...
                           many runs, several at once, on this machine or a Ray cluster; resumes
  dreamer eval RUN_DIR [--episodes N] [--mode greedy|sample] [--video FILE]
                           play with the newest checkpoint
  dreamer attach RUN_DIR [--evaluators N] [--episodes N | --forever] [--mode greedy|sample]
                 [--weights latest|STEP] [--video]
                           play beside a running run, by default with its newest weights
  dreamer watch RUN_DIR [--port N] [--mode greedy|sample] [--speed X]
                           a web page of the agent at play and what its world model dreams
  dreamer status RUN_DIR   where a run stands
  dreamer logs RUN_DIR [--follow]
                           its starts, stops, checkpoints and faults
  dreamer stop RUN_DIR     have a running run write a checkpoint and end
  dreamer replay inspect|verify RUN_DIR
                           what is stored; whether every byte of it is whole
  dreamer replay export RUN_DIR --to DIR [--episodes N] [--compress]
                           episodes as .npz files for other tools
  dreamer bench learner|policy|replay|env|run [--preset NAME] [--json FILE] ...
                           measure this machine
  dreamer presets [NAME]   the presets; each value of one, with its source

  dreamer submit CLUSTER PRESET [options of train]
                           train as a job on a cluster: the .yaml file that `ray up` was given, or
                           the address of its job server, http://HOST:8265
  dreamer eval|attach|status|logs|stop|replay ... --on CLUSTER
                           the command on that cluster's head; RUN_DIR is a directory there

  dreamer COMMAND --help   all options of a command
Presets: {presets}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0 done, 1 failed, 2 bad input, 70 a bug of ours, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "train": _train,
        "local": _local,
        "sweep": _sweep,
        "eval": _eval,
        "attach": _attach,
        "submit": _submit,
        "watch": _watch,
        "status": _status,
        "logs": _logs,
        "stop": _stop,
        "replay": replay_command.run,
        "bench": _bench,
        "presets": preset_command.run,
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE.format(presets=", ".join(PRESETS)))
        sys.exit(0 if arguments else BadInput.exit_code)
    command, *rest = arguments
    try:
        with naming("work in the present directory", "Change to one that is there"):
            Path.cwd()
        if command not in commands:
            raise BadInput(
                f"There is no command {command!r}; known are {', '.join(commands)}. "
                "See `dreamer --help`"
            )
        cluster, rest = _take_option("--on", rest) if command in _ANYWHERE else (None, rest)
        if cluster is not None:
            sys.exit(remote.run(cluster, [command, *rest], _say))
        if command in _ANYWHERE and {"-h", "--help"} & set(rest):
            sys.stdout.write(_ON_HELP)
        sys.exit(commands[command](rest))
    except BrokenPipeError:
        is_complete = command in ("logs", "presets", "status")
        os._exit(0 if is_complete else Failed.exit_code)  # nobody reads on
    except DreamerError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_EXIT)
    except Exception as error:  # noqa: BLE001 (shown with its trace)
        traceback.print_exc()
        _complain(
            f"This is a bug in dreamer ({type(error).__name__}), and nothing that you did wrong. "
            "Please report it with the trace above. What is stored is good"
        )
        sys.exit(BUG_EXIT)


def _train(arguments: list[str]) -> int:
    """`dreamer train`; the one command that needs Ray, which takes a second to import."""
    from services.runtime import run  # noqa: PLC0415

    command = with_preset(TrainCommand, arguments, "dreamer train PRESET")
    config, services = command.config, command.services

    def start(run_dir: Path, display: Display, should_stop: StopRequest) -> RunResult:
        def on_start(metrics_url: str) -> None:
            should_stop.listen()
            display.set_metrics_url(metrics_url)

        return run.train(
            config,
            services,
            run_dir,
            observe=display.update,
            on_start=on_start,
            should_stop=should_stop,
        )

    return _show(config, command.run_dir, start)


def _local(arguments: list[str]) -> int:
    """`dreamer local`."""
    command = with_preset(LocalCommand, arguments, "dreamer local PRESET")

    def start(run_dir: Path, display: Display, should_stop: StopRequest) -> RunResult:
        return train_local(
            command.config, run_dir, observe=display.update, should_stop=should_stop
        )  # fmt: skip

    return _show(command.config, command.run_dir, start)


def _sweep(arguments: list[str]) -> int:
    """`dreamer sweep`."""
    from services.sweep import plan as sweep_plan  # noqa: PLC0415 (Ray takes a second)
    from services.sweep import sweep  # noqa: PLC0415 (Ray takes a second)
    from services.sweep import table as sweep_table  # noqa: PLC0415 (Ray takes a second)

    sweep_plan.refuse_options_of_one_run(arguments)
    command = with_preset(sweep.SweepCommand, arguments, "dreamer sweep PRESET")
    console = Console()
    with sweep_table.SweepDisplay(command.directory, console=console) as display:
        _log_through(console)
        should_stop = StopRequest(console.log)
        progress = sweep.sweep(
            command,
            observe=display.update,
            on_start=should_stop.listen,
            should_stop=should_stop,
        )
    console.print(sweep_table.render_end(progress, command.directory))
    if not progress.is_over:
        return should_stop.exit_code
    return Failed.exit_code if progress.where("failed") else 0


def _attach(arguments: list[str]) -> int:
    """`dreamer attach`."""
    from services.runtime import attach  # noqa: PLC0415 (Ray takes a second to import)

    command = tyro.cli(attach.AttachCommand, args=arguments, prog="dreamer attach")
    console = Console()
    should_stop = StopRequest(lambda _: None)  # an episode under way is given up

    def on_episode(episode: EpisodeSummary, version: int) -> None:
        console.print(
            f"return {episode.episode_return:g}, {episode.length} policy steps, weights of "
            f"gradient step {version:,}",
            soft_wrap=True,
        )

    attach.attach(
        command,
        on_episode=on_episode,
        on_start=should_stop.listen,
        should_stop=should_stop,
    )
    return should_stop.exit_code


def _submit(arguments: list[str]) -> int:
    """`dreamer submit CLUSTER PRESET`."""
    if arguments and arguments[0] not in ("-h", "--help"):
        cluster, *arguments = arguments
        remote.require_cluster(cluster)
    else:
        cluster = "CLUSTER"
    parsed = with_preset(TrainCommand, arguments, "dreamer submit CLUSTER PRESET")
    if parsed.services.runtime.ray_address is not None:
        raise BadInput("--runtime.ray-address is the cluster's own for a job on it; drop it")
    run_dir = parsed.run_dir or default_run_dir(parsed.config)
    words = list(arguments)
    if parsed.run_dir is None:
        words += ["--run-dir", str(run_dir)]
    if not any(word.startswith("--metrics.port") for word in words):
        words += ["--metrics.port", "0"]  # several runs share the head
    code = remote.submit(cluster, words, run_dir, _say)
    if code == 0 and not remote.is_relayed():
        _say("It goes on without this terminal:")
        for command in ("status", "logs", "stop"):
            _say(f"  dreamer {command} {run_dir} --on {cluster}")
    return code


def _stop(arguments: list[str]) -> int:
    """`dreamer stop`."""
    command = tyro.cli(control.StopCommand, args=arguments, prog="dreamer stop")
    has_stopped = control.stop(command)
    _say("Stopped" if has_stopped else f"Nobody trains in {command.run_dir}")
    return 0


def _logs(arguments: list[str]) -> int:
    """`dreamer logs`."""
    command = tyro.cli(control.LogsCommand, args=arguments, prog="dreamer logs")
    for line in control.log_lines(command):
        _say(line)
    return 0


def _say(line: str) -> None:
    """Writes a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _watch(arguments: list[str]) -> int:
    """`dreamer watch`."""
    from services.watch import server as watch  # noqa: PLC0415 (the web server takes half a second to import)

    command = tyro.cli(watch.WatchCommand, args=arguments, prog="dreamer watch")
    console = Console()
    should_stop = StopRequest(lambda _: None)  # there is nothing to finish first

    def on_listening(url: str) -> None:
        console.print(f"Watch at {url} (Ctrl-C ends it)", soft_wrap=True, highlight=False)

    watch.watch(command, on_listening=on_listening, should_stop=should_stop)
    return should_stop.exit_code


def _eval(arguments: list[str]) -> int:
    """`dreamer eval`."""
    command = tyro.cli(EvalCommand, args=arguments, prog="dreamer eval")
    console = Console()
    scores: list[float] = []
    for evaluation in evaluate_run(
        command.run_dir,
        episodes=command.episodes,
        mode=command.mode,
        video=command.video,
        seed=command.seed,
    ):
        scores.append(evaluation.episode_return)
        console.print(
            f"episode {len(scores)}: return {evaluation.episode_return:g}, "
            f"{evaluation.length} policy steps"
        )
    console.print(
        f"mean return {sum(scores) / len(scores):g} over {len(scores)} episodes, "
        f"mode {command.mode}"
    )
    if command.video is not None:
        console.print(f"video {command.video}", soft_wrap=True)
    return 0


def _status(arguments: list[str]) -> int:
    """`dreamer status`."""
    command = tyro.cli(StatusCommand, args=arguments, prog="dreamer status")
    Console().print(render_status(command.run_dir))
    return 0


def _bench(arguments: list[str]) -> int:
    """`dreamer bench PART`."""
    from services import bench  # noqa: PLC0415 (Ray takes a second to import)

    part, *rest = arguments or [""]
    if part in ("-h", "--help"):
        part, rest = "PART", ["--help"]
    elif part not in bench.PARTS:
        raise BadInput(
            f"There is nothing named {part!r} to measure; known are {', '.join(bench.PARTS)}. "
            "See `dreamer bench --help`"
        )
    name, rest = _take_option("--preset", rest)
    rest = [name or "atari", *rest]
    command = with_preset(bench.BenchCommand, rest, f"dreamer bench {part} PRESET")
    if command.json is not None:
        bench.require_writable(command.json)
    measurement = bench.PARTS[part](command)
    Console().print(bench.render(measurement))
    if command.json is not None:
        bench.write(measurement, command.json)
    return 0


def _take_option(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """Takes `NAME VALUE` or `NAME=VALUE` out of the arguments; None where it is not among them."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1], arguments[:index] + arguments[index + 1 :]
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
    return None, arguments


def _show(
    config: Config,
    run_dir: Path | None,
    start: Callable[[Path, Display, StopRequest], RunResult],
) -> int:
    """Runs a training under the live display and says what it left behind."""
    run_dir = run_dir or default_run_dir(config)
    console = Console()
    with Display(config.steps, run_dir, console=console) as display:
        _log_through(display.console)
        should_stop = StopRequest(display.console.log)
        result = start(run_dir, display, should_stop)
    state = (
        "Finished (raise --steps to train on)"
        if result.is_finished
        else "Stopped; the same command resumes it"
    )
    console.print(
        f"{state}: {result.policy_steps:,} policy steps, {result.gradient_steps:,} gradient steps."
    )
    written = {
        "checkpoints": config.checkpoint.url or run_dir / "checkpoints",
        "replay": run_dir / "replay",
        "TensorBoard": run_dir / "tensorboard",
        "JSONL": run_dir / "metrics.jsonl",
        **{path.stem.replace("_", " "): path for path in result.pictures},
    }
    for what, path in written.items():
        console.print(f"  {what:<15} {path}", soft_wrap=True, highlight=False)
    return should_stop.exit_code


def _log_through(console: Console) -> None:
    """Puts log lines above the live display."""
    handler = RichHandler(console=console, show_path=False, omit_repeated_times=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler], force=True)


def _complain(message: str) -> None:
    """Writes a one-paragraph error to stderr."""
    words = " ".join(message.split())
    Console(stderr=True).print(f"[bold red]dreamer:[/] {escape(words)}", highlight=False)
