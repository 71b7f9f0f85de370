"""What the page says of scores: a table of tasks, aggregates, who beats whom, and warnings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamer_core.page.charts import NUM_COLORS, Span, interval_chart
from dreamer_core.page.learning import paper_game
from dreamer_core.page.markup import Html, joined, tag
from dreamer_core.page.records import RunRecord, Variant
from dreamer_core.scores.aggregate import AGGREGATES, RESAMPLES
from dreamer_core.scores.improvement import Improvement, improvement, interval_of_mean
from dreamer_core.scores.runs import Wanted, collect
from dreamer_core.scores.scored import CollectedRuns, ScoredRun
from dreamer_core.scores.stamp import Stamp, differences, protocol_of, shown
from dreamer_core.scores.summary import Summary
from dreamer_core.scores.table import AGENTS, TITLES, table_k1
from dreamer_core.words import UNKNOWN, number, plural, score

_MANY_SEEDS = 5  # from which on the bootstrap over seeds covers about what it says
_TITLES = {
    "gamer_median": "gamer median",
    "gamer_mean": "gamer mean",
    "record_mean": "record mean",
    "clipped_record_mean": "clipped record mean",
    "iqm": "interquartile mean",
    "optimality_gap": "optimality gap, less is better",
}


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of the page's runs."""

    collected: CollectedRuns
    """Of the runs of the paper's games."""
    by_dir: dict[Path, ScoredRun]

    @staticmethod
    def of(variants: Sequence[Variant]) -> Scores:
        """Returns the scores by the paper's protocol; a run without evaluation is left out.

        Of several variants, one seed of a game is there as often, and that is no mistake.
        """
        collected = CollectedRuns()
        for variant in variants:
            read = {each.run_dir: each.history for each in variant.runs if paper_game([each])}
            collected.add(collect(read, Wanted(), read))
        return Scores(collected, {Path(run.source): run for run in collected.runs})

    def summary(self, variant: Variant) -> Summary | None:
        """Returns games and aggregates of a variant; None where none of its runs is scored."""
        runs = [self.by_dir[r.run_dir] for r in variant.runs if r.run_dir in self.by_dir]
        return Summary(CollectedRuns(runs=runs)) if runs else None

    def warnings(self, records: Sequence[RunRecord]) -> list[str]:
        """Returns what is wrong with runs, and why their scores may not be comparable."""
        found = list(Summary(self.collected).warnings)
        return found + [f"{each.run_dir}: {words}" for each in records for words in each.warnings]

    def protocol(self, records: Sequence[RunRecord]) -> dict[str, str]:
        """Returns what the scores are scores of: each fact, with the runs' different values."""
        found: dict[str, list[str]] = {}
        for stamp in self._stamps(records):
            for name, value in stamp.items():
                if _is_protocol(name):
                    values = found.setdefault(name.replace("_", " "), [])
                    if (words := shown(value)) not in values:
                        values.append(words)
        return {name: " or ".join(values) for name, values in found.items()}

    def differences(self, records: Sequence[RunRecord]) -> list[str]:
        """Returns a line for each fact of the protocol that is not the same for all runs.

        Preset and settings are no part of it: what has others is a variant of its own.
        """
        stamps = self._stamps(records)
        return differences([{k: x for k, x in each.items() if _is_protocol(k)} for each in stamps])

    def _stamps(self, records: Sequence[RunRecord]) -> list[Stamp]:
        """Returns those of scored runs, or of all where none of the paper's games is scored."""
        scored = [run.stamp for run in self.collected.runs]
        return scored or [protocol_of(record.config) for record in records]


def _is_protocol(name: str) -> bool:
    return "." not in name and name != "preset"


_HEADINGS = ("task", "preset", "score", "95% interval", "seeds", "episodes", "at frames")


def score_table(tasks: Sequence[str], variants: Sequence[Variant]) -> Html:
    """Returns a row for each task and variant, beside random play, gamer, record and agents."""
    is_paper = any(paper_game([run]) for variant in variants for run in variant.runs)
    beside = ("random", "gamer", "record", *(TITLES[a] for a in reversed(AGENTS)))
    names = (*_HEADINGS, *(beside if is_paper else ()))
    rows: list[Html] = []
    for task in tasks:
        rows += [
            tag("tr", *cells)
            for color, variant in enumerate(variants)
            if (runs := variant.of(task))
            for cells in [_score_cells(task, variant.label, runs, color, is_paper=is_paper)]
        ]
    head = headings(names, numbers=names[2:])
    return wide_table(tag("table", tag("thead", head), tag("tbody", *rows)), "Scores")


def headings(names: Sequence[str], *, numbers: Sequence[str]) -> Html:
    """Returns the first row of a table; those above numbers stand to the right as they do."""
    kinds = ("number" if each in numbers else None for each in names)
    cells = (tag("th", x, scope="col", class_=kind) for x, kind in zip(names, kinds, strict=True))
    return tag("tr", *cells)


def wide_table(table: Html, name: str) -> Html:
    """Returns a table that scrolls within itself where a screen is narrow."""
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=name)


def _score_cells(
    task: str, label: str, runs: Sequence[RunRecord], color: int, *, is_paper: bool
) -> Iterator[Html]:
    evaluated = [last for run in runs if (last := run.history.evaluations.last())]
    scores = [each.mean for each in evaluated]
    interval = interval_of_mean(scores)
    frames = sorted(each.frames[1] for each in evaluated)
    counts = sorted({len(each.episodes) for each in evaluated})
    yield tag("th", task, scope="row")
    yield tag("td", chip(color), label, class_="name")
    yield _cell(tag("b", score(statistics.fmean(scores))) if scores else UNKNOWN)
    yield _cell(f"{score(interval.low)} to {score(interval.high)}" if interval else UNKNOWN)
    yield _cell(f"{len(scores)}" if len(scores) == len(runs) else f"{len(scores)} of {len(runs)}")
    yield _cell(from_to(counts))
    yield _cell(from_to([number(each) for each in frames]))
    if is_paper:
        game = paper_game(runs)
        row = table_k1()[game] if game else None
        others = ("random", "gamer", "record", *reversed(AGENTS))
        yield from (_cell(score(getattr(row, each)) if row else UNKNOWN) for each in others)


def from_to(values: Sequence[str | int]) -> str:
    """Returns the first and the last of values, or that both are the same."""
    ends = dict.fromkeys((values[0], values[-1])) if values else (UNKNOWN,)
    return " to ".join(map(str, ends))


def _cell(content: str) -> Html:
    return tag("td", content, class_="number")


def chip(color: int) -> Html:
    """Returns the colour of a variant, as its curves have it."""
    again = " again" if color >= NUM_COLORS else ""
    return tag("span", class_=f"chip c{color % NUM_COLORS}{again}", aria_hidden="true")


def aggregates(variants: Sequence[Variant], scores: Scores) -> Html | None:
    """Returns a chart of each aggregate over the games; None where less than two are scored."""
    given = [(color, v, scores.summary(v)) for color, v in enumerate(variants)]
    found = [(color, v, summary) for color, v, summary in given if summary is not None]
    if not found or max(len(summary.games) for _, _, summary in found) < 2:
        return None
    charts = [_aggregate_chart(name, found) for name in AGGREGATES]
    notes = [tag("p", each, class_="muted") for each in _aggregate_notes(found)]
    return joined((*notes, tag("div", *charts, class_="charts")))


def _aggregate_chart(name: str, found: Sequence[tuple[int, Variant, Summary]]) -> Html:
    spans: list[Span] = []
    for color, variant, summary in found:
        interval = summary.intervals[name] if summary.intervals else None
        spans.append(
            Span(
                label=variant.label,
                value=getattr(summary.aggregates, name),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                color=color,
            )
        )
    largest = max((summary for *_, summary in found), key=lambda summary: len(summary.games))
    for agent in reversed(AGENTS):
        value = getattr(largest.references[agent], name)
        spans.append(Span(label=TITLES[agent], value=value))
    title = _TITLES[name]
    unit = "0 random, 1 record" if "record" in name else "0 random, 1 gamer"
    chart = interval_chart(spans, name=title, x_title=unit)
    return tag("figure", tag("figcaption", title), chart)


def _aggregate_notes(found: Sequence[tuple[int, Variant, Summary]]) -> Iterator[str]:
    counts = {len(summary.games) for *_, summary in found}
    games = " to ".join(map(str, sorted({min(counts), max(counts)})))
    yield (
        f"Over {games} of the paper's {len(table_k1())} games; the agents of Table K.1 over the "
        "same. Gamer median, gamer mean, record mean and clipped record mean are the paper's, the "
        "other two those of Agarwal et al. (2021). Bars hold 95% of "
        f"{RESAMPLES:,} bootstrap samples, which draw seeds within each game."
    )
    if len({tuple(summary.missing) for *_, summary in found}) > 1:
        yield "The presets played different games, so their aggregates cannot be compared."
    fewest = min(summary.fewest_seeds for *_, summary in found)
    if any(summary.intervals is None for *_, summary in found):
        yield "Where every game has one seed there is no interval: what another gives is unknown."
    elif fewest < _MANY_SEEDS:
        yield f"Intervals of {plural(fewest, 'seed')} a game are rather too narrow."


def improvement_matrix(variants: Sequence[Variant], scores: Scores) -> Html | None:
    """Returns how likely each variant beats each other one; None where less than two are scored."""
    found = [(v.label, s.scores) for v in variants if (s := scores.summary(v)) is not None]
    if len(found) < 2:
        return None
    head = tag("tr", tag("td"), *(tag("th", label, scope="col") for label, _ in found))
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            *(
                tag("td", UNKNOWN, class_="number")
                if one is other
                else _odds(improvement(one, other))
                for _, other in found
            ),
        )
        for label, one in found
    ]
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="matrix")
    return wide_table(table, "Probability of improvement")


def _odds(found: Improvement | None) -> Html:
    if found is None:
        return tag("td", "no common game", class_="number muted")
    percent = f"{100 * found.probability:.0f}%"
    between = found.interval
    words = f"{100 * between.low:.0f} to {100 * between.high:.0f}%" if between else "no interval"
    side = "won" if found.probability > 0.5 else "lost"
    strength = f"--by: {abs(found.probability - 0.5) * 2:.2f}"
    small = tag("small", words, " over ", plural(len(found.games), "game"))
    return tag(
        "td", tag("b", percent), tag("br"), small, class_=f"number odds {side}", style=strength
    )
