"""Lines and directories of runs for the tests of scores: action repeat 4, as on Atari."""

import json

from dreamer_core.config import Config
from dreamer_core.fields import to_dict
from dreamer_core.report.read import LogLine
from dreamer_core.report.report import EpisodeSummary


def line(
    policy_step,
    *returns,
    service="evaluator",
    made_at=None,
    mode="greedy",
    weights="latest",
    **labels,
):
    """An evaluation of weights made at a policy step, or what another service reports."""
    made_at = policy_step if made_at is None else made_at
    is_evaluator = service == "evaluator"
    return LogLine(
        wall_time_s=0.0,
        service=service,
        policy_step=policy_step,
        env_frame=4 * policy_step,
        gradient_step=1,
        values={"dreamer_evaluation_policy_steps": made_at} if is_evaluator else {},
        episodes=tuple(
            EpisodeSummary(policy_step=made_at + i, episode_return=value, length=1)
            for i, value in enumerate(returns)
        ),
        labels={"mode": mode, "weights": weights, **labels} if is_evaluator else {},
    )


def write_run(run_dir, lines, *, task="pong", seed=0, evaluation=None, **settings):
    """A run directory of the preset `atari`; settings are sections of its config."""
    config = to_dict(Config())
    config["seed"], config["env"]["task"] = seed, task
    config.pop("evaluation")
    for section, values in settings.items():
        config[section] |= values
    if evaluation is not None:
        config["evaluation"] = evaluation
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps(config))
    (run_dir / "metrics.jsonl").write_text("".join(map(as_text, lines)))
    return run_dir


def as_text(each):
    fields = {name: getattr(each, name) for name in LogLine.__dataclass_fields__}
    episodes = [
        {"policy_step": e.policy_step, "episode_return": e.episode_return, "length": e.length}
        for e in each.episodes
    ]
    return json.dumps(fields | {"episodes": episodes}) + "\n"
