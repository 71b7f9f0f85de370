"""A run that writes its metrics."""

import pytest

from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report


@pytest.fixture
def log(tmp_path):
    """Writes metrics of a run as the run would."""
    with RunLog(tmp_path / "pong_1", frames_per_policy_step=4) as run_log:

        def write(policy_step, *returns, service="collector", **values):
            episodes = tuple(
                EpisodeSummary(policy_step=policy_step + i, episode_return=r, length=1)
                for i, r in enumerate(returns)
            )
            values = {f"dreamer_{name}": value for name, value in values.items()}
            labels = {"mode": "greedy"} if service == "evaluator" else {}
            report = Report(service=service, values=values, episodes=episodes, labels=labels)
            run_log.write(report, policy_step=policy_step, gradient_step=1)

        yield write
