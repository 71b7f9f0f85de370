"""What the page says, section after section, and how it is put together.

header       what runs, how long, what was evaluated; warnings
scores       each task beside the paper's players; aggregates; who beats whom
learning     returns, and what moves before they do
world model  what it predicts, of some runs      episode  what they play
runs         each one, and where it stands       settings the config, preset by preset
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from dreamer_core.page import overview, pictures
from dreamer_core.page.contents import Contents
from dreamer_core.page.diagnostics import DIAGNOSTICS
from dreamer_core.page.learning import metric_chart, returns_chart
from dreamer_core.page.looks import Look, Played
from dreamer_core.page.markup import Child, Html, joined, tag
from dreamer_core.page.records import RunRecord, Variant
from dreamer_core.page.scored import aggregates, chip, improvement_matrix, score_table
from dreamer_core.page.settings import config_section
from dreamer_core.report.evaluated import SCORED_EPISODES
from dreamer_core.report.read import RUNNING_MEAN_EPISODES
from dreamer_core.words import few, plural, score

_FEW_TASKS = 3  # whose diagnostics are shown at once
_POINTS, _FEWER_POINTS = 160, 60  # of a curve, of few tasks and of many


def page(contents: Contents) -> str:
    """Returns the page: one file that asks for no other."""
    place = files("dreamer_core") / "page" / "data"
    title = f"DreamerV2: {few(contents.tasks, overview.SHOWN_NAMES)}"
    sections = list(_sections(contents))
    links = [tag("a", each.title, href=f"#{each.id}") for each in sections]
    return Template((place / "page.html").read_text(encoding="utf-8")).substitute(
        title=joined([title]),
        style=(place / "page.css").read_text(encoding="utf-8"),
        script=(place / "page.js").read_text(encoding="utf-8"),
        header=overview.header(contents, title),
        links=joined(links),
        sections=joined(each.html for each in sections),
        footer=_footer(contents),
    )


@dataclass(frozen=True, slots=True)
class _Section:
    id: str
    title: str
    parts: tuple[Child, ...]

    @property
    def html(self) -> Html:
        return tag(
            "section", tag("h2", self.title, id=self.id), *self.parts, aria_labelledby=self.id
        )


def _sections(contents: Contents) -> Iterator[_Section]:
    table = score_table(contents.tasks, contents.variants)
    protocol = contents.scores.protocol(contents.records)
    yield _Section(
        "scores", "Scores", (_score_notes(contents), table, *_facts("Protocol", protocol))
    )
    charts = aggregates(contents.variants, contents.scores)
    if charts is not None:
        yield _Section("aggregates", "Over all games", (charts,))
    matrix = improvement_matrix(contents.variants, contents.scores)
    if matrix is not None:
        yield _Section("improvement", "Who beats whom", (_matrix_note(), matrix))
    yield _Section("learning", "Learning", tuple(_learning(contents)))
    parts = tuple(_dreams(contents))
    if parts:
        yield _Section("world-model", "World model", parts)
    parts = tuple(_episodes(contents))
    if parts:
        yield _Section("episodes", "Episodes", parts)
    yield _Section("runs", "Runs", (overview.runs_table(contents),))
    yield _Section("settings", "Settings", tuple(_settings(contents)))


def _facts(title: str, facts: Mapping[str, str]) -> Iterator[Html]:
    if facts:
        yield tag("h4", title)
        yield overview.listed(facts.items(), "facts small")


def _score_notes(contents: Contents) -> Html:
    left_out = contents.scores.collected.left_out
    words = (
        f"A run's score is the mean of its last {SCORED_EPISODES} greedy evaluation episodes, as "
        "in the paper's curves and Table K.1; a row's is the mean over its seeds. The interval "
        "holds 95% of the bootstrap over the seeds: too narrow with few, and none with one."
    )
    parts: list[Child] = [tag("p", words, class_="muted")]
    if left_out:
        items = [tag("li", f"{each.source}: {each.reason}.") for each in left_out]
        summary = tag("summary", f"Runs without a score ({len(left_out)})")
        parts.append(tag("details", summary, tag("ul", *items)))
    return joined(parts)


def _matrix_note() -> Html:
    words = (
        "The probability that a run of the row's preset scores higher than one of the column's, on "
        "a game that both played, mean over these games (Agarwal et al. 2021). 50% is no "
        "difference. Below, its 95% interval by the bootstrap over seeds."
    )
    return tag("p", words, class_="muted")


def _learning(contents: Contents) -> Iterator[Child]:
    words = (
        "Lines are means over seeds, and bands a standard deviation to either side. Of returns, "
        f"full lines are greedy evaluations, dashed ones training, each point the mean of up to "
        f"{RUNNING_MEAN_EPISODES} episodes, whose actions are sampled. A seed counts as far as it "
        "has come."
    )
    yield tag("p", words, class_="muted")
    if len(contents.variants) > 1:
        names = [tag("li", chip(k), v.label) for k, v in enumerate(contents.variants)]
        yield tag("ul", *names, class_="legend")
    tasks = contents.tasks
    limit = _POINTS if len(tasks) <= _FEW_TASKS else _FEWER_POINTS
    returns = [
        tag("figure", tag("figcaption", task), returns_chart(task, contents.variants, limit))
        for task in tasks
    ]
    yield tag("div", *returns, class_="charts")
    for task in tasks:
        yield tag(
            "details",
            tag("summary", f"{task}: losses, KL, entropies and speeds"),
            *_diagnostics(task, contents.variants, limit),
            open=len(tasks) <= _FEW_TASKS,
        )


def _diagnostics(task: str, variants: Sequence[Variant], limit: int) -> Iterator[Html]:
    for title, drawn in DIAGNOSTICS.items():
        found = [metric_chart(each, task, variants, limit) for each in drawn]
        charts = [tag("figure", each) for each in found if each is not None]
        if charts:
            yield tag("h4", title)
            yield tag("div", *charts, class_="charts")


def _dreams(contents: Contents) -> Iterator[Child]:
    for record, look in contents.looks:
        analysis = look.analysis
        if analysis is None:
            continue
        yield tag("h3", *_titled(contents, record))
        yield tag(
            "p",
            f"{plural(analysis.sequences, 'held-out sequence')}, with the weights of "
            f"{analysis.gradient_step:,} gradient steps. The model sees {analysis.context} images, "
            "and then imagines from the actions alone.",
            class_="muted",
        )
        yield pictures.open_loop(analysis)
        yield pictures.analysis_charts(analysis)
        yield tag("p", pictures.reward_words(analysis), class_="muted")
        if (words := pictures.latent_words(analysis)) is not None:
            yield tag("p", words, class_="muted")


def _episodes(contents: Contents) -> Iterator[Child]:
    cards = [
        tag("div", tag("h3", *_titled(contents, record)), *_episode(look))
        for record, look in contents.looks
        if look.played is not None or look.missing
    ]
    if cards:
        yield tag("div", *cards, class_="looks")


def _episode(look: Look) -> Iterator[Child]:
    if look.played is not None:
        yield tag("p", _played_words(look.played), class_="muted")
        yield pictures.episode(look.played.frames, look.played.fps)
    yield from (tag("p", f"Shown without {each}.", class_="muted") for each in look.missing)


def _played_words(played: Played) -> str:
    end = "cut off here" if played.is_cut else "to its end"
    return (
        f"A greedy episode, {end}: return {score(played.episode_return)} after "
        f"{plural(played.length, 'policy step')}, with the weights of policy step "
        f"{played.policy_step:,}."
    )


def _titled(contents: Contents, record: RunRecord) -> tuple[Child, ...]:
    color, label = contents.variant_of(record)
    return (chip(color), f"{record.task}, {label}, seed {record.seed}")


def _settings(contents: Contents) -> Iterator[Child]:
    for color, variant in enumerate(contents.variants):
        yield tag("h3", chip(color), variant.label)
        yield tag("p", f"{plural(len(variant.runs), 'run')}.", class_="muted")
        yield config_section(variant)


def _footer(contents: Contents) -> Html:
    at = contents.made_at.strftime("%Y-%m-%d %H:%M %Z").strip()
    return tag(
        "p",
        f"Made by dreamer report on {at}. Random, gamer, record and agents: DreamerV2 (Hafner et "
        "al. 2021), Table K.1, after 200M frames of sticky Atari.",
        class_="muted",
    )
