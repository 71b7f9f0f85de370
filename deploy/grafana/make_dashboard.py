"""Writes dashboards/dreamer.json: is it running, how fast, is it learning, what waits, what fails.

    python deploy/grafana/make_dashboard.py

Every panel is one line or two of `ROWS`; queries mention `RUN`, which becomes the chosen runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

PATH = Path(__file__).resolve().parent / "dashboards" / "dreamer.json"
WIDTH = 24  # of Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RUN = 'run=~"$run"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question and its answer."""

    title: str
    help: str
    """What to make of it; shown beside the title."""
    queries: dict[str, str]
    """Legend, behind the run's name, to PromQL."""
    unit: str = "short"
    """Grafana's name of the unit."""
    kind: Literal["stat", "timeseries"] = "timeseries"
    width: int = 8
    red_above: float | None = None
    """A stat turns red from here on; None: it never does."""
    red_below: float | None = None
    """A stat is red below this."""
    is_log: bool = False
    """Draw a logarithmic axis."""


PAGE = "http://127.0.0.1:8764/"  # where `dreamer watch` serves it, unless told otherwise
LINK = {
    "title": "The run's page",
    "tooltip": "Where `dreamer watch RUN_DIR` serves it; the field above says where that is.",
    "type": "link",
    "icon": "external link",
    "url": "${page}",
    "targetBlank": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Marks over all panels where something happened."""

    name: str
    query: str
    """PromQL; marks where it is above 0, or at the times that it says."""
    color: str
    is_time: bool = False
    """It says times, in milliseconds since 1970."""


def metric(name: str) -> str:
    """Returns the query of one metric of the chosen runs."""
    return f"dreamer_{name}{{{RUN}}}"


def recorded(name: str) -> str:
    """Returns the query of a recording rule of deploy/prometheus/rules.yml."""
    return f"run:dreamer_{name}{{{RUN}}}"


def step_seconds(quantile: float) -> str:
    """Returns the query of a quantile of the duration of a gradient step."""
    buckets = f"rate({metric('gradient_step_seconds_bucket')}[5m])"
    return f"histogram_quantile({quantile}, sum by (run, le) ({buckets}))"


MARKS = (
    Mark(
        name="Run started",
        color="blue",
        is_time=True,
        query=f'process_start_time_seconds{{job="dreamer", {RUN}}} * 1000',
    ),
    Mark(
        name="Checkpoint",
        color="green",
        is_time=True,
        query=f"{metric('checkpoint_timestamp_seconds')} * 1000",
    ),
    Mark(
        name="Service replaced", color="red", query=f"changes({metric('restarts_total')}[1m]) > 0"
    ),
)


def stat(title: str, help: str, query: str, unit: str = "short", **options: Any) -> Panel:  # noqa: A002
    """Returns a small panel with one number a run."""
    return Panel(
        title=title, help=help, queries={"": query}, unit=unit, kind="stat", width=4, **options
    )


def gradient_norm(whose: str, name: str) -> Panel:
    """Returns the panel of one optimiser; their norms differ by orders of magnitude."""
    text = "Before clipping. Growth without end comes before a loss that is not finite."
    query = metric(f"{name}_gradient_norm")
    return Panel(title=f"{whose}: gradient norm", help=text, queries={"": query}, is_log=True)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it running?": (
        stat("Scraped", "1 while the run answers.", f'up{{job="dreamer", {RUN}}}', red_below=1),
        stat(
            "Alerts", "Firing alerts; below, which ones.",
            f'count by (run) (ALERTS{{alertstate="firing", {RUN}}}) '
            f'or 0 * group by (run) (up{{job="dreamer", {RUN}}})',
            red_above=1,
        ),
        stat("Env frames", "Simulator frames of the run.", metric("env_frames_total")),
        stat("Gradient steps", "Of the run, repeated ones included.",
             metric("gradient_steps_total")),
        stat("Newest checkpoint", "Its age: what a kill would cost.",
             metric("checkpoint_age_seconds"), "s", red_above=600),
        stat("Replay", "Bytes on disk.", metric("replay_bytes"), "bytes"),
    ),
    "How fast?": (
        Panel(title="Policy steps a second", help="Stored by the replay.", unit="ops",
              queries={"": recorded("policy_steps:rate5m")}),
        Panel(title="Gradient steps a second", help="Taken by the learner, repeated ones included.",
              unit="ops", queries={"": recorded("gradient_steps:rate5m")}),
        Panel(title="Duration of a gradient step", help="Quantiles of five minutes.", unit="s",
              queries={"median": step_seconds(0.5), "95%": step_seconds(0.95)}),
        Panel(title="Policy steps per gradient step",
              help="Settles at the wanted ratio once the random play is outweighed.", width=12,
              queries={"live": metric("policy_steps_per_gradient_step"),
                       "wanted": metric("wanted_policy_steps_per_gradient_step")}),
        Panel(title="Policy lag", width=12,
              help="Gradient steps since the weights that the collector was last handed.",
              queries={"": metric("policy_lag_gradient_steps")}),
    ),
    "Is it learning?": (
        Panel(title="Return",
              help="Sum of raw rewards: the newest training episode, the mean of the last 100, "
                   "evaluation.",
              queries={"training": metric("episode_return"),
                       "mean of 100": metric("episode_return_mean"),
                       "evaluation ({{mode}}, {{weights}})": metric("evaluation_return")}),
        Panel(title="Episode length", help="Policy steps of the newest episode.",
              queries={"training": metric("episode_length_policy_steps"),
                       "evaluation ({{mode}}, {{weights}})":
                           metric("evaluation_length_policy_steps")}),
        Panel(title="Image error", is_log=True,
              help="Mean squared error a pixel; the first number that should fall.",
              queries={"": metric("image_mean_squared_error")}),
        Panel(title="Reward and discount loss", help="In nats, without the Gaussian's constant.",
              queries={"reward": metric("reward_loss"), "discount": metric("discount_loss")}),
        Panel(title="KL", help="Nats, from posterior to prior: how much an image still surprises.",
              queries={"": metric("kl_nats")}),
        Panel(title="Latent entropies",
              help="Nats, at most variables x ln(classes); a prior that never settles is a bad "
                   "sign.",
              queries={"prior": metric("prior_entropy_nats"),
                       "posterior": metric("posterior_entropy_nats")}),
        Panel(title="Actor entropy", help="Nats; 0 early on means that exploration has died.",
              queries={"": metric("actor_entropy_nats")}),
        Panel(title="Imagined return and value",
              help="They should agree, and grow with the real return.",
              queries={"lambda-return": metric("actor_target_mean"),
                       "value": metric("value_mean")}),
        Panel(title="Behaviour losses", help="Of the imagination; their height says little.",
              queries={"actor": metric("actor_loss"), "critic": metric("critic_loss")}),
        gradient_norm("World model", "world_model"),
        gradient_norm("Actor", "actor"),
        gradient_norm("Critic", "critic"),
    ),
    "What is it waiting for?": (
        Panel(title="Idle time", unit="percentunit",
              help="A learner that idles wants a faster collector, environment or replay; a "
                   "collector that idles is held by the ratio and wants a faster learner.",
              queries={"learner": recorded("sample_wait:ratio5m"),
                       "collector": recorded("insert_wait:ratio5m")}),
        Panel(title="Checkpoint", help="How long the newest took to write.", unit="s",
              queries={"": metric("checkpoint_seconds")}),
        Panel(title="Age of the newest evaluation",
              help="Policy steps since its weights; grows without end where the evaluator starves.",
              queries={"": f"max by (run) ({metric('policy_steps_total')}) - "
                           f"max by (run) ({metric('evaluation_policy_steps')})"}),
    ),
    "Is anything failing?": (
        Panel(title="Firing alerts", help="docs/operations.md says what to do.",
              queries={"{{alertname}} {{service}}": f'ALERTS{{alertstate="firing", {RUN}}}'}),
        Panel(title="Replaced services", help="Within the hour before.",
              queries={"{{service}}": f"increase({metric('restarts_total')}[1h])"}),
        Panel(title="Errors", help="Within the hour before; supervisor.log has their words.",
              queries={"{{service}}": f"increase({metric('errors_total')}[1h])"}),
        Panel(title="Time since the newest error", help="Absent where none came.", unit="s",
              queries={"{{service}}": f"time() - {metric('last_error_timestamp_seconds')}"}),
        Panel(title="Refused, repaired, dropped",
              help="Chunks of replaced collectors, damage cut out of the replay, reports that the "
                   "logs lack.",
              queries={"fenced inserts": metric("fenced_inserts_total"),
                       "repaired records": metric("repaired_records_total"),
                       "dropped reports": metric("dropped_reports_total")}),
        Panel(title="What the replay holds", help="Levels off at replay.capacity_steps.",
              queries={"rows": metric("replay_steps"), "episodes": metric("replay_episodes")}),
        Panel(title="Free disk", unit="bytes", width=12,
              help="Of the disk with the run directory. A run whose disk is full stands still.",
              queries={"": metric("disk_free_bytes")}),
        Panel(title="Memory of the process", unit="bytes", width=12,
              help="Resident, of the command itself; its services have their own.",
              queries={"": f'process_resident_memory_bytes{{job="dreamer", {RUN}}}'}),
    ),
    "Sweeps": (
        Panel(title="Runs of the sweep", help="By state; failed ones have had all their retries.",
              queries={"{{state}}": metric("sweep_runs")}),
        Panel(title="Games done", help="Games of which every run is done, of all.",
              queries={"done": metric("sweep_games_done"), "all": metric("sweep_games")}),
        Panel(title="Env frames a second of the sweep", help="Of the running runs together.",
              unit="ops", queries={"": metric("sweep_env_frames_per_second")}),
        Panel(title="Done", help="Part of all policy steps.", unit="percentunit", width=12,
              queries={"": metric("sweep_done_ratio")}),
        Panel(title="Failures of runs", help="Within the hour before, tries after them included.",
              width=12, queries={"": f"increase({metric('sweep_failures_total')}[1h])"}),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana wants it."""
    return {
        "uid": "dreamer",
        "title": "Dreamer",
        "tags": ["dreamer"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": [_annotation(mark) for mark in MARKS]},
        "links": [LINK],
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    query = 'label_values(up{job="dreamer"}, run)'
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {
            "name": "run",
            "type": "query",
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": "StandardVariableQuery"},
            "refresh": 2,  # whenever the time range changes
            "includeAll": True,
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        },
        {
            "name": "page",
            "label": "Page of dreamer watch",
            "type": "textbox",
            "query": PAGE,
            "current": {"text": PAGE, "value": PAGE},
        },
    ]


def _annotation(mark: Mark) -> dict[str, Any]:
    return {
        "name": mark.name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": mark.color,
        "expr": mark.query,
        "useValueForTime": mark.is_time,
        "titleFormat": mark.name,
        "textFormat": "{{run}} {{service}}",
    }


def _panels() -> list[dict[str, Any]]:
    """Lays the panels out in rows, as many side by side as there is room for."""
    made: list[dict[str, Any]] = []
    ids, y = count(1), 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        made.append({"id": next(ids), "gridPos": place, **row})
        x, y = 0, y + 1
        height = 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            made.append({"id": next(ids), "gridPos": place, **_panel(panel)})
            x += panel.width
        y += height
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": f"{{{{run}}}} {legend}".strip(),
        }
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, **_look(panel)}, "overrides": []},
    }


def _look(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        scale = {"type": "log", "log": 10} if panel.is_log else {"type": "linear"}
        return {"custom": {"scaleDistribution": scale, "showPoints": "auto"}}
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    return {"thresholds": {"mode": "absolute", "steps": steps}}


def main() -> None:
    """Writes the file."""
    PATH.write_text(json.dumps(dashboard(), indent=1) + "\n")


if __name__ == "__main__":
    main()
