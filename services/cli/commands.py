"""Every command of `dreamer`: its words, what it does, and the module that does it.

The help and the table of docs/usage.md are made from this.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_HELP_COLUMN = 27


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the help."""

    words: str
    """After `dreamer`; begins with the command's name, which is its module's in services.cli."""
    help: str
    """What it does."""


COMMANDS = (
    Command(
        "demo [--port N] [--no-browser]",
        "opens a page on which a trained agent, which comes with this program, plays Boxing "
        "beside its dream",
    ),
    Command(
        "train PRESET [--run-dir DIR] [--section.field VALUE ...]",
        "trains through the services; resumes if DIR holds the run",
    ),
    Command(
        "local PRESET [--run-dir DIR] [--section.field VALUE ...]",
        "the same algorithm in one process, without Ray",
    ),
    Command(
        "offline PRESET --replay DIR... --steps N [--run-dir DIR] [--actions discrete|continuous] "
        "[--section.field VALUE ...]",
        "trains from the replays of runs alone, N gradient steps without collecting; resumes",
    ),
    Command(
        "sweep PRESET --games all|pong,boxing --seeds N [--gpus-per-run 0.25] "
        "[--section.field VALUE ...]",
        "many runs, several at once, on this machine or a Ray cluster; resumes",
    ),
    Command(
        "scores PATH... [--at-frames N] [--returns evaluation|training] [--mode greedy|sample] "
        "[--column NAME] [--json FILE]",
        "the paper's report over Atari games: runs, sweeps or CSV files beside its agents, with "
        "aggregates and intervals",
    ),
    Command(
        "report RUN_OR_SWEEP... [--out report.html] [--pictures N] [--no-episode] [--no-dream]",
        "one page that opens without a network: scores, curves with bands over seeds, what the "
        "world model predicts, an episode, settings",
    ),
    Command(
        "check-env SUITE-OR-TASK [--steps 500] [--to FILE] [--env.field VALUE ...]",
        "plays an environment at random: what it is, what the agent sees (a picture), what is "
        "wrong or risky and what to do about it",
    ),
    Command(
        "eval RUN_DIR [--episodes N] [--mode greedy|sample] [--checkpoint STEP] [--video FILE] "
        "[--episode-limit N]",
        "plays the newest checkpoint or another that is kept; FILE: `.mp4`, `.webm` or `.gif`",
    ),
    Command(
        "attach RUN_DIR [--evaluators N] [--episodes N | --forever] [--mode greedy|sample] "
        "[--weights latest|STEP] [--video] [--episode-limit N]",
        "plays beside a running run; the results go into it",
    ),
    Command(
        "watch RUN_OR_SWEEP [--port N] [--mode greedy|sample] [--speed X]",
        "a web page of the agent at play beside what its world model dreams; of a sweep, a wall of "
        "its runs that leads to the page of each",
    ),
    Command(
        "dream RUN_DIR [--out FILE] [--checkpoint STEP] [--sequences N] [--context N] "
        "[--horizon N] [--json FILE]",
        "what the world model imagines of episodes that it was not trained on, by steps ahead and "
        "beside baselines; FILE: an animation, `.gif`, `.mp4` or `.webm`",
    ),
    Command("status RUN_OR_SWEEP [--json]", "where it stands, or how it ended"),
    Command(
        "logs RUN_OR_SWEEP [--follow]",
        "its starts, stops, kills, checkpoints, evaluations, restarts and faults",
    ),
    Command("stop RUN_OR_SWEEP", "has what runs there write its checkpoints and end"),
    Command(
        "submit CLUSTER PRESET ...",
        "trains as a job on a cluster: the .yaml file of `ray up`, or http://HOST:8265",
    ),
    Command(
        "eval|attach|status|logs|stop|replay ... --on CLUSTER",
        "the command on a cluster's head; RUN_DIR is a directory there",
    ),
    Command(
        "sweep PRESET ... --on CLUSTER",
        "the sweep as a job on a cluster; it goes on without this terminal",
    ),
    Command(
        "replay inspect RUN_DIR", "what is stored, by segment file: rows, episodes, bytes, damage"
    ),
    Command(
        "replay verify RUN_DIR",
        "reads every stored byte; exits with 1 and names file and bytes where something is damaged",
    ),
    Command(
        "replay export RUN_DIR --to DIR [--episodes N] [--compress]",
        "writes episodes, all or the newest N, as `.npz` files",
    ),
    Command(
        "replay import DIR_OR_FILES... --run-dir DIR [--preset NAME] [--section.field VALUE ...]",
        "makes episodes a run's replay: `.npz` of `export` or of the authors' code, or Minari's",
    ),
    Command(
        "export RUN_DIR --to FILE_OR_DIR [--checkpoint STEP]",
        "the policy for other programs; FILE: `.onnx`, or `.pt2` of torch.export; DIR: the whole "
        "agent in safetensors, to be handed on",
    ),
    Command(
        "bench learner|policy|replay|env|run [PRESET] [--json FILE]",
        "measures this machine; the preset is `atari` where none is named",
    ),
    Command(
        "presets [NAME]",
        "lists the presets, or each value of one with its source and what differs from `atari`",
    ),
)

NAMES = tuple(dict.fromkeys(c.words.split()[0] for c in COMMANDS if "|" not in c.words.split()[0]))
"""Of the commands."""
ANYWHERE = ("attach", "eval", "logs", "replay", "status", "stop", "sweep")
"""Commands that take `--on CLUSTER`."""


def usage(presets: tuple[str, ...]) -> str:
    """Returns what `dreamer --help` prints."""
    lines = ["dreamer trains DreamerV2 agents inside their own world model.", ""]
    for command in COMMANDS:
        lines += textwrap.wrap(f"  dreamer {command.words}", 100, subsequent_indent=" " * 10)
        lines += textwrap.wrap(
            command.help.replace("`", ""),
            100,
            initial_indent=" " * _HELP_COLUMN,
            subsequent_indent=" " * _HELP_COLUMN,
        )
    names = textwrap.wrap(f"Presets: {', '.join(presets)}", 100, subsequent_indent=" " * 9)
    return "\n".join(
        [
            *lines,
            "",
            "  dreamer COMMAND --help   all options of a command",
            "  dreamer --version        version, commit, torch, ray and Python",
            "",
            *names,
            "",
            "Begin with:",
            "  dreamer demo",
            "  dreamer train atari_tiny --env.task krull --steps 20000",
            "  dreamer watch runs/atari_tiny_krull_0",
            "",
        ]
    )


def table_rows() -> list[str]:
    """Returns the rows of the table in docs/usage.md, without its links."""
    escaped = [(c.words.replace("|", "\\|"), c.help) for c in COMMANDS]
    return [f"| `dreamer {words}` | {help_text} |" for words, help_text in escaped]
