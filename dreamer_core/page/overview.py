"""The begin of the page, which says what runs, and the table of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dreamer_core.page.contents import Contents
from dreamer_core.page.markup import Html, joined, tag
from dreamer_core.page.records import RunRecord
from dreamer_core.page.scored import chip, from_to, headings, wide_table
from dreamer_core.report.evaluated import SCORED_EPISODES, SCORED_TRAINING_EPISODES
from dreamer_core.words import UNKNOWN, duration, few, number, score

SHOWN_NAMES = 6
"""Of tasks, presets and seeds."""
_SHOWN_WARNINGS = 6


def header(contents: Contents, title: str) -> Html:
    """Returns what the page is about, and what has to be known."""
    records = contents.records
    reached = [newest for each in records if (newest := each.history.newest) is not None]
    frames = sorted(each.env_frame for each in reached)
    seeds = sorted({each.seed for each in records})
    facts = (
        ("runs", str(len(records))),
        ("task" if len(contents.tasks) == 1 else "tasks", few(contents.tasks, SHOWN_NAMES)),
        (
            "preset" if len(contents.variants) == 1 else "presets",
            few([v.label for v in contents.variants], SHOWN_NAMES, "; "),
        ),
        ("seed" if len(seeds) == 1 else "seeds", few([str(each) for each in seeds], SHOWN_NAMES)),
        ("frames of a run", from_to([number(each) for each in frames])),
        ("training, all runs", duration(sum(each.wall_s for each in records))),
    )
    return joined((tag("h1", title), listed(facts, "facts"), _warnings(contents)))


def listed(facts: Iterable[tuple[str, str]], kind: str) -> Html:
    """Returns names and what they are; `kind` is the class of the list."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", x)) for name, x in facts), class_=kind)


def _warnings(contents: Contents) -> Html | None:
    found = contents.scores.warnings(contents.records)
    differences = contents.scores.differences(contents.records)
    items = [tag("li", each) for each in found]
    if differences:
        lines = tag("ul", *(tag("li", each) for each in differences))
        words = "The runs were not all made by one protocol, so their scores may not be comparable:"
        items.insert(0, tag("li", words, lines))
    if not items:
        return None
    title = tag("p", tag("b", "To be known"))
    shown, others = items[:_SHOWN_WARNINGS], items[_SHOWN_WARNINGS:]
    more = tag("details", tag("summary", f"{len(others)} more"), tag("ul", *others))
    kept = (title, tag("ul", *shown), more if others else None)
    return tag("div", *kept, class_="notice", role="note")


_HEADINGS = (
    "run",
    "task",
    "preset",
    "seed",
    "frames",
    "gradient steps",
    "time",
    "evaluation",
    "training",
    "state",
)
_NUMBERS = ("seed", "frames", "gradient steps", "time", "evaluation", "training")


def runs_table(contents: Contents) -> Html:
    """Returns a row for each run: how far it is, and its numbers."""
    head = headings(_HEADINGS, numbers=_NUMBERS)
    rows = [tag("tr", *_run_cells(contents, record)) for record in contents.records]
    words = (
        f"Evaluation: mean of up to {SCORED_EPISODES} last greedy episodes. Training: mean of up "
        f"to {SCORED_TRAINING_EPISODES} last ones, a number of its own. Time: from the first "
        "report to the last, pauses included."
    )
    table = wide_table(tag("table", tag("thead", head), tag("tbody", *rows)), "Runs")
    return joined((tag("p", words, class_="muted"), table))


def _run_cells(contents: Contents, record: RunRecord) -> Iterator[Html]:
    color, label = contents.variant_of(record)
    newest = record.history.newest
    evaluated = record.history.evaluations.last()
    trained = record.history.training.last()
    yield tag("th", contents.name_of(record), scope="row", title=str(record.run_dir))
    yield tag("td", record.task)
    yield tag("td", chip(color), label, class_="name")
    for each in (
        str(record.seed),
        f"{newest.env_frame:,}" if newest else UNKNOWN,
        f"{newest.gradient_step:,}" if newest else UNKNOWN,
        duration(record.wall_s) if newest else UNKNOWN,
        score(evaluated.mean) if evaluated else UNKNOWN,
        score(trained.mean) if trained else UNKNOWN,
    ):
        yield tag("td", each, class_="number")
    yield tag("td", _state(record))


def _state(record: RunRecord) -> str:
    if record.holder is not None:
        return "running"
    if record.history.newest is None:
        return "not begun"
    steps = record.config.get("steps")
    if not isinstance(steps, int) or record.history.newest.policy_step >= steps:
        return "finished"
    return f"stopped at {100 * record.history.newest.policy_step / steps:.0f}%"
