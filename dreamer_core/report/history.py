"""What the log of a run tells of it: where it stands, its newest numbers, its last episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dreamer_core.report.evaluated import LastEvaluations, LastTraining
from dreamer_core.report.metrics import is_of_newest_weights
from dreamer_core.report.read import METRICS_FILE, LogLine, LogReader


class RunHistory:
    """Takes the lines of a run's log one by one, and says what they come to.

    Evaluations of older checkpoints tell nothing of the run as it is now and are left out.

    Args:
        keep_training: training episodes that are kept, as in `LastTraining`.
    """

    def __init__(self, *, keep_training: int | None = None) -> None:
        self.newest: LogLine | None = None
        """Where the run stands."""
        self.newest_with: dict[str, LogLine] = {}
        """The newest line that holds a metric, by the metric's name."""
        self.evaluations = LastEvaluations()
        self.training = LastTraining(keep=keep_training)

    def take(self, line: LogLine) -> None:
        """Takes in the next line, of any service."""
        self.evaluations.take(line)
        self.training.take(line)
        if is_of_newest_weights(line):
            self.newest = line
            self.newest_with |= dict.fromkeys(line.values, line)

    def forget(self, name: str) -> None:
        """Leaves out a metric until a line tells of it again."""
        self.newest_with.pop(name, None)

    @property
    def values(self) -> dict[str, float]:
        """Newest value of each metric; NaN where it was not finite."""
        return {name: line.values[name] for name, line in self.newest_with.items()}

    @property
    def newest_evaluation(self) -> Mapping[str, float]:
        """Metrics of the newest evaluation; none before the first."""
        line = self.newest_with.get("dreamer_evaluation_return")
        return {} if line is None else line.values


def read_history(
    run_dir: Path,
    *,
    tail_bytes: int | None = None,
    damaged: Callable[[str], None] | None = None,
) -> RunHistory:
    """Returns what the log in a run directory tells; nothing where there is none.

    Args:
        run_dir: of the run.
        tail_bytes: of a long log, so much of its end is read; None reads all of it.
        damaged: is told what is wrong with each damaged line, which is then left out.

    Raises:
        BadInput: a line is damaged, and nobody is told.
        OSError: the log cannot be read.
    """
    history = RunHistory()
    for line in LogReader(run_dir / METRICS_FILE, tail_bytes=tail_bytes, damaged=damaged).read_on():
        history.take(line)
    return history
