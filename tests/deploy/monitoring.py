"""What deploy/ says to Prometheus and Grafana, and a Prometheus that scrapes a run, for tests."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request

import yaml

from tests.runs import ROOT, free_port

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "dreamer.json"
RUN_NAME = "pong"
_NAME = re.compile(r"\b(?:run:)?dreamer_[a-z0-9_:]+")


def what_is_missing():
    """Names what the tests need and this machine lacks; '' if nothing."""
    missing = [name for name in ("promtool", "prometheus") if shutil.which(name) is None]
    return f"{' and '.join(missing)} missing: Debian package prometheus" if missing else ""


def promtool(*arguments, text=None):
    """Exit code and all output of promtool."""
    done = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def rules():
    """Every recording and alert rule."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded():
    """Names that the recording rules make."""
    return {rule["record"] for rule in rules() if "record" in rule}


def panel_queries():
    """PromQL by panel and legend, with the run chosen."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        (panel["title"], target["legendFormat"]): target["expr"].replace("$run", RUN_NAME)
        for panel in panels
        for target in panel.get("targets", ())
    }


def mark_queries():
    """PromQL by name of what is marked over the panels, with the run chosen."""
    marks = json.loads(DASHBOARD.read_text())["annotations"]["list"]
    return {mark["name"]: mark["expr"].replace("$run", RUN_NAME) for mark in marks}


def metric_names(query):
    """Metrics of this project that a query names."""
    return set(_NAME.findall(query))


class Prometheus:
    """A Prometheus with this project's files that scrapes one run every second."""

    def __init__(self, directory, metrics_port):
        config = directory / "prometheus"
        shutil.copytree(PROMETHEUS, config)
        path = config / "prometheus.yml"
        path.write_text(path.read_text().replace("_interval: 15s", "_interval: 1s"))
        target = {"targets": [f"127.0.0.1:{metrics_port}"], "labels": {"run": RUN_NAME}}
        (config / "targets" / "test.json").write_text(json.dumps([target]))
        self._url = f"http://127.0.0.1:{(port := free_port())}/api/v1"
        self._log = (directory / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, path, **parameters):
        """The data of an answer; what went wrong, as an HTTPError, if the query is none."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.loads(response.read())["data"]

    def query(self, expression):
        """Samples with their labels, as of now."""
        return self.ask("query", query=expression)["result"]

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()
