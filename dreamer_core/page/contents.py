"""What a page is made of: runs that were read, and a closer look at some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamer_core.page.looks import Look
from dreamer_core.page.records import RunRecord, Variant, read_run, run_dirs, variants
from dreamer_core.page.scored import Scores

MOST_PICTURED = 4
"""Runs that are looked at where no other number is asked for."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that the page is made of."""

    records: Sequence[RunRecord]
    variants: Sequence[Variant]
    scores: Scores
    looks: Sequence[tuple[RunRecord, Look]]
    made_at: datetime

    @property
    def tasks(self) -> list[str]:
        """In the order in which they were named."""
        return list(dict.fromkeys(record.task for record in self.records))

    def variant_of(self, record: RunRecord) -> tuple[int, str]:
        """Index and label of the variant of a run."""
        found = [k for k, variant in enumerate(self.variants) if record in variant.runs]
        return found[0], self.variants[found[0]].label

    def name_of(self, record: RunRecord) -> str:
        """The name of a run's directory, or its path where several have that name."""
        name = record.run_dir.name
        is_alone = sum(each.run_dir.name == name for each in self.records) == 1
        return name if is_alone and name else str(record.run_dir)


def read_contents(
    paths: Sequence[Path],
    look: Callable[[RunRecord], Look],
    *,
    most_pictured: int = MOST_PICTURED,
) -> Contents:
    """Reads runs and looks at some of them.

    Args:
        paths: run directories, or directories of sweeps.
        look: at one run, which takes its time.
        most_pictured: runs that are looked at.

    Raises:
        BadInput: a path is none of these, or a run cannot be read.
    """
    records = [read_run(run_dir) for run_dir in run_dirs(paths)]
    grouped = variants(records)
    chosen = list(_pictured(grouped))[:most_pictured]
    return Contents(
        records=records,
        variants=grouped,
        scores=Scores.of(grouped),
        looks=[(record, look(record)) for record in chosen],
        made_at=datetime.now().astimezone(),
    )


def _pictured(grouped: Sequence[Variant]) -> Iterator[RunRecord]:
    """Yields one run of each task and variant, the first that has a checkpoint."""
    for task in dict.fromkeys(run.task for variant in grouped for run in variant.runs):
        for variant in grouped:
            runs = variant.of(task)
            yield from ([run for run in runs if run.has_checkpoint] or runs)[:1]
