"""What deploy/ watches a run with: the files by Debian's promtool, their queries on a real run."""

import contextlib
import json
import math
import re
import runpy
import time
import urllib.request

import pytest
import yaml

from dreamer_core.report.metrics import METRICS
from services.sweep.metrics import SWEEP_METRICS
from tests.deploy.monitoring import (
    DASHBOARD,
    GRAFANA,
    PROMETHEUS,
    RUN_NAME,
    Prometheus,
    mark_queries,
    metric_names,
    panel_queries,
    promtool,
    recorded,
    rules,
    what_is_missing,
)
from tests.runs import CATCH, OFTEN, ROOT, Run

SCRAPED_S = 20.0
needs_prometheus = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())
ALERTS = [rule for rule in rules() if "alert" in rule]
MARKS = mark_queries()
QUERIES = {
    **MARKS,
    **{f"{title}, {legend}": query for (title, legend), query in panel_queries().items()},
    **{rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()},
}
PASSING = "Service replaced"  # is there for a minute alone
OF_A_RUN = {name for name, query in QUERIES.items() if "dreamer_sweep_" not in query}
SHOWN = [name for name in QUERIES if name in OF_A_RUN - {PASSING, *(a["alert"] for a in ALERTS)}]
EMPTY_WHERE_NOTHING_FIRES = {"Firing alerts, {{run}} {{alertname}} {{service}}"}
NOT_OF_THIS_RUN = {  # it sees images alone, on a CPU
    *("dreamer_vector_loss", "dreamer_vector_mean_squared_error"),
    *("dreamer_gpu_memory_bytes", "dreamer_gpu_memory_reserved_bytes"),
}
KNOWN_ELSEWHERE = (
    *("up{", "ALERTS{"),
    *("process_start_time_seconds{", "process_resident_memory_bytes{"),
)


def base_name(name):
    """The metric that a sample belongs to."""
    for suffix in ("_bucket", "_count", "_sum"):
        if METRICS.get(stem := name.removesuffix(suffix)) and METRICS[stem].kind == "histogram":
            return stem
    return name


# --- Files --------------------------------------------------------------------------------------


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=["config", "rules", "tests of rules"],
)
def test_promtool_accepts(arguments):
    *words, file = arguments
    code, output = promtool(*words, str(PROMETHEUS / file))
    assert code == 0 and "SUCCESS" in output, output


@needs_prometheus
def test_every_panels_query_is_promql(tmp_path):
    # A rule's expression is parsed; promtool of Debian 12 cannot be asked for a query alone.
    queries = dict(enumerate([*panel_queries().values(), *MARKS.values()]))
    named = [{"record": f"panel:{n}", "expr": query} for n, query in queries.items()]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": named}]}))
    code, output = promtool("check", "rules", str(tmp_path / "panels.yml"))
    assert code == 0 and f"{len(queries)} rules found" in output, output


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_no_query_names_a_metric_that_does_not_exist(query):
    names = {base_name(name) for name in metric_names(query)}
    assert names <= METRICS.keys() | recorded() | OF_THE_PROCESS | OF_A_SWEEP
    assert names or any(name in query for name in KNOWN_ELSEWHERE)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_where_it_is_written(alert):
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert "$labels.run" in alert["annotations"]["summary"]
    description = alert["annotations"]["description"]
    file, _, section = alert["annotations"]["runbook_url"].partition("#")
    page = (ROOT / file).read_text()
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert section in {title.lower().replace(" ", "-") for title in titles}
    quoted = description.split('"')[1::2]
    assert all(words in page or words in SAID for words in quoted), quoted


OF_THE_PROCESS = {"dreamer_disk_bytes", "dreamer_disk_free_bytes", "dreamer_episode_return_mean"}
"""What the exporter knows by itself (services/prometheus/endpoint.py)."""
OF_A_SWEEP = {
    *SWEEP_METRICS,
    *("dreamer_sweep_runs", "dreamer_sweep_failures_total", "dreamer_sweep_info"),
}
"""What the command of a sweep serves (services/sweep/metrics.py); a run does not."""
SAID = ("A service was lost",)
"""What the log says and the page need not repeat."""


def test_each_alert_is_tested():
    tests = (PROMETHEUS / "rules_test.yml").read_text()
    wanted = {f'ALERTS{{alertname="{a["alert"]}", alertstate="firing", severity' for a in ALERTS}
    assert {text for text in wanted if text not in tests} == set()


def test_the_dashboard_is_what_its_script_writes():
    made = runpy.run_path(str(GRAFANA / "make_dashboard.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text()) == made, "run deploy/grafana/make_dashboard.py"


def test_grafana_is_told_where_prometheus_is_and_how_often_it_scrapes():
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]
    assert source["type"] == "prometheus" and source["url"] == "http://127.0.0.1:9090"
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    (provider,) = provisioned("dashboards/dreamer.yml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == f"/var/lib/grafana/{DASHBOARD.parent.name}"


def provisioned(file):
    return yaml.safe_load((GRAFANA / "provisioning" / file).read_text())


def test_panels_do_not_overlap_and_stay_on_the_grid():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


# --- A real run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """A run whose collector was killed once, and a Prometheus that has watched it for a while."""
    if missing := what_is_missing():
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("monitoring")
    run = Run("train", directory / "run", *CATCH, *OFTEN, "--steps", "1000000",
              "--env.log-info", "landed",
              "--evaluation.interval-frames", "50")  # fmt: skip
    prometheus = Prometheus(directory, run.metrics_port)
    try:
        run.wait_for("dreamer_gradient_steps_total")
        run.wait_until(lambda: answers(prometheus, "dreamer_restarts_total"))  # 0 so far
        run.kill("collector")
        run.wait_for("dreamer_restarts_total", "collector")
        run.wait_for("dreamer_evaluation_policy_steps", "greedy", "latest")
        enough_s = time.monotonic() + SCRAPED_S
        run.wait_until(lambda: time.monotonic() > enough_s and sees_all(prometheus))
        yield run, prometheus
    finally:
        prometheus.close()
        run.terminate()
        run.finish()


def numbers(prometheus, query):
    return [float(sample["value"][1]) for sample in prometheus.query(query)]


def answers(prometheus, *queries):
    """Whether there are numbers for each: on a busy machine they come later."""
    with contextlib.suppress(OSError):  # it does not listen yet
        found = [numbers(prometheus, query) for query in queries]
        return all(values and not any(map(math.isnan, values)) for values in found)
    return False


def not_served(prometheus):
    """Metrics that it has not seen."""
    names = {base_name(name) for name in prometheus.ask("label/__name__/values")}
    return METRICS.keys() - names


def sees_all(prometheus):
    """Whether every metric is there, and something to see in every panel."""
    wanted = set(SHOWN) - EMPTY_WHERE_NOTHING_FIRES
    has_numbers = answers(prometheus, *(QUERIES[name] for name in wanted))
    return has_numbers and not_served(prometheus) <= NOT_OF_THIS_RUN


@pytest.mark.deploy
def test_promtool_has_nothing_to_say_about_the_names(scraped):
    run, _ = scraped
    url = f"http://127.0.0.1:{run.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as response:
        code, output = promtool("check", "metrics", text=response.read().decode())
    assert (code, output) == (0, "")


@pytest.mark.deploy
def test_a_run_serves_every_metric_there_is(scraped):
    assert not_served(scraped[1]) == NOT_OF_THIS_RUN


@pytest.mark.deploy
@pytest.mark.parametrize("panel", SHOWN)
def test_every_panel_and_recording_rule_has_something_to_show(scraped, panel):
    values = numbers(scraped[1], QUERIES[panel])
    if panel in EMPTY_WHERE_NOTHING_FIRES:
        assert values == []
    else:
        assert values and not any(map(math.isnan, values)), "empty, or not a number"


@pytest.mark.deploy
def test_prometheus_evaluates_every_rule_and_no_alert_fires(scraped):
    _, prometheus = scraped
    loaded = [r for group in prometheus.ask("rules")["groups"] for r in group["rules"]]
    assert len(loaded) == len(rules())
    assert {rule["health"] for rule in loaded} == {"ok"}, [r.get("lastError") for r in loaded]
    of_run = f'ALERTS{{alertstate="firing", run="{RUN_NAME}"}}'
    assert prometheus.query(of_run) == []


@pytest.mark.deploy
def test_the_replaced_collector_shows_as_a_growth(scraped):
    (sample,) = scraped[1].query(
        f'increase(dreamer_restarts_total{{run="{RUN_NAME}", service="collector"}}[5m])'
    )
    assert float(sample["value"][1]) > 0
    (mark,) = scraped[1].query(MARKS[PASSING].replace("[1m]", "[5m]"))
    assert mark["metric"]["service"] == "collector"
