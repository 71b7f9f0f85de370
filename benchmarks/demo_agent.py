"""Puts the agent of a run in the demo's place: its networks, its score, and its model card.

    python benchmarks/demo_agent.py RUN_DIR [--episodes 20] [--trained-at COMMIT] [--note TEXT]

writes dreamer_core/demo/ anew. The card says everything that is known of the run, so nothing in it
is written by hand; --note is for what is not, and stands at its top.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from dreamer_core.bench.measure import machine
from dreamer_core.config import Config
from dreamer_core.presets import differing, preset
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.handed_on import hand_on
from dreamer_core.storage.checkpoint import Checkpoint
from dreamer_core.storage.identity import saved_config
from dreamer_core.storage.named import DEMO_DIRECTORY
from services.sweep.plan import option_of

CARD = "MODEL_CARD.md"
_OF_THE_PLACE = ("preset", "env.task", "steps", "seed", "init_from", "checkpoint.")
"""Settings that the command names apart, or that train nothing."""

_TEXT = Path(__file__).with_name("demo_card.txt")


def main(arguments: list[str] | None = None) -> None:
    """Does it."""
    options = options_of(arguments)
    new = DEMO_DIRECTORY.with_name("demo.new")
    shutil.rmtree(new, ignore_errors=True)
    agent = hand_on(options.run_dir, new, step=options.checkpoint)
    returns: list[float] = []
    for played in evaluate_run(
        new, episodes=options.episodes, mode="greedy", video=None, seed=0, say=print
    ):
        returns.append(played.episode_return)
        print(f"episode {len(returns)} of {options.episodes}: {played.episode_return:g}")
    (new / CARD).write_text(card(agent, returns, options), encoding="utf-8")
    shutil.rmtree(DEMO_DIRECTORY, ignore_errors=True)
    new.rename(DEMO_DIRECTORY)
    print(f"mean return {statistics.mean(returns):g}; wrote {DEMO_DIRECTORY}")


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Returns what was asked for on the command line."""
    parser = argparse.ArgumentParser(description="Put the agent of a run in the demo's place.")
    parser.add_argument("run_dir", type=Path, help="directory of the run")
    parser.add_argument("--episodes", type=int, default=20, help="played greedily for the score")
    parser.add_argument("--checkpoint", type=int, help="gradient steps; by default the newest")
    parser.add_argument("--trained-at", help="commit of this program that trained it")
    parser.add_argument("--note", default="", help="what else is to be said at the top of the card")
    return parser.parse_args(arguments)


def card(agent: Checkpoint, returns: list[float], options: argparse.Namespace) -> str:
    """Returns the model card of an agent that scored these returns."""
    config = saved_config(agent.facts, agent.location)
    changes = changes_of(config)
    numbers = [tensor for part in agent.tensors.values() for tensor in part.values()]
    params = sum(tensor.numel() for tensor in numbers)
    policy_steps = agent.facts["policy_step"]
    return _TEXT.read_text(encoding="utf-8").format(
        note=f"\n**{options.note}**\n" if options.note else "",
        task=config.env.task.capitalize(),
        suite=config.env.suite,
        params=params,
        megabytes=4 * params / 1e6,
        policy_steps=policy_steps,
        frames=policy_steps * config.env.action_repeat,
        gradient_steps=agent.step,
        mean=statistics.mean(returns),
        deviation=statistics.pstdev(returns),
        lowest=min(returns),
        highest=max(returns),
        episodes=len(returns),
        protocol=_protocol(config),
        preset=config.preset,
        seed=config.seed,
        torch=agent.facts["versions"]["torch"],
        trained_at=f", at commit {options.trained_at}" if options.trained_at else "",
        commit=machine()["commit"],
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        settings="\n".join(f"- `{name}`: {value!r}" for name, value in changes.items()) or "None.",
        train=_command(config, changes, policy_steps),
        run_dir=f"runs/{config.env.task}",
        returns=", ".join(f"{value:g}" for value in returns),
    )


def changes_of(config: Config) -> dict[str, Any]:
    """What a config changes of its preset, without what the command names apart."""
    return {
        name: value
        for name, (value, _) in differing(config, preset(config.preset)).items()
        if not name.startswith(_OF_THE_PLACE)
    }


def _protocol(config: Config) -> str:
    env = config.env
    return (
        f"each action for {env.action_repeat} frames, sticky actions with probability "
        f"{env.sticky_action_probability:g}, up to {env.max_noops} no-ops first, the game's own 18 "
        "actions, raw scores"
    )


def _command(config: Config, changes: dict[str, Any], policy_steps: int) -> str:
    """The command line that trains such an agent."""
    words = ["dreamer", "local", config.preset, f"--env.task {config.env.task}"]
    words += [f"--steps {policy_steps}", f"--seed {config.seed}"]
    words += [shlex.join(option_of(name, value)) for name, value in changes.items()]
    return " \\\n        ".join(
        [" ".join(words[:5]), *words[5:], f"--run-dir runs/{config.env.task}"]
    )


if __name__ == "__main__":
    main()
