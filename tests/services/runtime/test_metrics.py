"""What Prometheus sees, by real scrapes over HTTP."""

import json
import logging
import math
import shutil
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dreamer_core.errors import BadInput
from dreamer_core.presets import preset
from dreamer_core.report.metrics import METRICS
from dreamer_core.report.report import EpisodeSummary, Report
from services.prometheus import endpoint
from services.prometheus.endpoint import PortInUse
from services.prometheus.targets import advertised, targets_of_others, told_to_prometheus
from services.runtime.metrics import PrometheusExporter
from services.runtime.run import labels_of


@pytest.fixture
def exporter():
    with PrometheusExporter(0) as exporter:
        yield exporter


def scrape(exporter):
    with urllib.request.urlopen(exporter.url, timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def report_total(exporter, total, service="learner"):
    values = {"dreamer_gradient_steps_total": total}
    exporter.observe(Report(service=service, values=values))
    return scrape(exporter)["dreamer_gradient_steps_total",]


def test_every_metric_appears_under_its_name_and_kind(exporter):
    labels = {"service": "learner", "mode": "greedy", "weights": "latest", "key": "success"}
    exporter.observe(Report(service="learner", values=dict.fromkeys(METRICS, 1.0), labels=labels))
    with urllib.request.urlopen(exporter.url, timeout=10) as response:
        text = response.read().decode()
    for name, metric in METRICS.items():
        assert f"# TYPE {name} {metric.kind}\n" in text
        assert f"# HELP {name} {metric.help}\n" in text
    assert "_created" not in text


def test_before_the_first_report_only_what_begins_with_the_process_is_there(exporter):
    samples = scrape(exporter)
    assert samples["dreamer_gradient_step_seconds_count",] == 0
    for service in ("collector", "evaluator", "learner", "replay"):
        assert samples["dreamer_restarts_total", service] == 0
        assert samples["dreamer_errors_total", service] == 0
    assert ("dreamer_policy_steps_total",) not in samples
    assert ("dreamer_actor_loss",) not in samples


def test_the_steps_of_a_resumed_run_are_never_seen_to_be_taken_at_once():
    seen = []
    with PrometheusExporter(0) as exporter:
        for total in (None, 5_000_000, 5_000_100):
            if total is not None:
                report_total(exporter, total)
            seen.append(scrape(exporter).get(("dreamer_gradient_steps_total",)))
    assert seen == [None, 5_000_000, 5_000_100]  # absent, not 0: no rate is computed from it


def test_a_gauge_shows_the_newest_value(exporter):
    for value in (5.0, -2.5):
        exporter.observe(Report(service="learner", values={"dreamer_actor_loss": value}))
    assert scrape(exporter)["dreamer_actor_loss",] == -2.5


def test_what_episodes_tell_has_a_series_for_each_key(exporter):
    told = EpisodeSummary(policy_step=9, episode_return=1.0, length=9, info={"success": 1.0})
    exporter.observe(Report(service="collector", episodes=(told,)))
    labels = {"mode": "greedy", "weights": "latest"}
    exporter.observe(Report(service="evaluator", episodes=(told, told), labels=labels))
    assert scrape(exporter)["dreamer_episode_info", "success"] == 1
    assert scrape(exporter)["dreamer_evaluation_info", "success", "greedy", "latest"] == 1


def test_totals_become_counters(exporter):
    assert [report_total(exporter, total) for total in (100, 100, 250)] == [100, 100, 250]


def test_a_counter_never_falls_when_a_service_goes_back(exporter):
    report_total(exporter, 1000)
    assert report_total(exporter, 900) == 1000  # restored from its checkpoint
    assert report_total(exporter, 950) == 1050  # 50 steps of work since
    assert report_total(exporter, 0) == 1050  # a new process that counts from 0
    assert report_total(exporter, 10) == 1060


@pytest.mark.parametrize("total", [float("nan"), float("inf"), -1.0])
def test_a_total_that_cannot_be_one_is_refused(exporter, total):
    with pytest.raises(ValueError, match="0 or more and finite"):
        report_total(exporter, total)


def test_a_counter_from_two_services_is_refused(exporter):
    report_total(exporter, 10, "learner")
    with pytest.raises(ValueError, match="by learner and now by supervisor"):
        report_total(exporter, 10, "supervisor")


def test_restarts_are_counted_for_each_service(exporter):
    for service, total in (("collector", 2), ("learner", 1)):
        values = {"dreamer_restarts_total": total}
        exporter.observe(Report(service="supervisor", values=values, labels={"service": service}))
    samples = scrape(exporter)
    assert samples["dreamer_restarts_total", "collector"] == 2
    assert samples["dreamer_restarts_total", "learner"] == 1


def test_a_histogram_takes_single_observations(exporter):
    name = "dreamer_gradient_step_seconds"
    single = {name: (0.04, 0.4)}
    exporter.observe(Report(service="learner", values={name: 0.22}, observations=single))
    samples = scrape(exporter)
    assert samples[f"{name}_count",] == 2
    assert samples[f"{name}_sum",] == pytest.approx(0.44)
    assert samples[f"{name}_bucket", "0.05"] == 1
    assert samples[f"{name}_bucket", "+Inf"] == 2


def test_the_newest_training_episode_is_shown(exporter):
    episodes = tuple(
        EpisodeSummary(policy_step=10, episode_return=value, length=7) for value in (1.0, 3.0)
    )
    exporter.observe(Report(service="collector", episodes=episodes))
    samples = scrape(exporter)
    assert samples["dreamer_episode_return",] == 3.0
    assert samples["dreamer_episode_length_policy_steps",] == 7


def test_an_unknown_name_is_refused_and_changes_nothing(exporter):
    values = {"dreamer_actor_loss": 1.0, "dreamer_actor_los": 1.0}
    with pytest.raises(KeyError, match="did you mean dreamer_actor_loss"):
        exporter.observe(Report(service="learner", values=values))
    assert ("dreamer_actor_loss",) not in scrape(exporter)


def test_a_port_in_use_is_named_with_the_way_out(exporter):
    with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{exporter.port}.*--metrics\.port"):
        PrometheusExporter(exporter.port)


def test_without_a_port_the_first_that_is_free_is_taken(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    with PrometheusExporter(0) as other:
        monkeypatch.setattr(endpoint, "DEFAULT_PORT", other.port)
        with PrometheusExporter(None) as exporter:
            assert exporter.port > other.port
            assert scrape(exporter)["dreamer_gradient_step_seconds_count",] == 0
        assert f"Port {other.port} is in use" in caplog.text
        monkeypatch.setattr(endpoint, "_PORTS_TRIED", 1)
        with pytest.raises(PortInUse, match=str(other.port)):
            PrometheusExporter(None)


def test_a_port_at_which_a_dead_run_is_looked_for_is_left_alone(tmp_path, monkeypatch, exporter):
    first = exporter.port + 1
    monkeypatch.setattr(endpoint, "DEFAULT_PORT", first)
    targets = [f"127.0.0.1:{first}", "elsewhere:9464"]
    (tmp_path / "dead.json").write_text(json.dumps([{"targets": targets, "labels": {"run": "a"}}]))
    (tmp_path / "damaged.json").write_bytes(b'[{"\xff')
    avoided = targets_of_others(tmp_path, "own")
    assert avoided == set(targets)
    with PrometheusExporter(None, avoided=avoided) as later:
        assert later.port > first
    assert not targets_of_others(tmp_path, "dead")  # a run may have its own port again
    assert not targets_of_others(tmp_path / "new", "own")
    assert not targets_of_others(None, "own")


def test_it_says_what_is_run_and_watches_its_own_process_and_disk(tmp_path):
    info = {"run": "runs/pong", "version": "0.1.0"}
    with PrometheusExporter(0, info=info, directory=tmp_path) as exporter:
        samples = scrape(exporter)
        assert samples["dreamer_run_info", "runs/pong", "0.1.0"] == 1
        assert samples["process_resident_memory_bytes",] > 1e6
        disk = shutil.disk_usage(tmp_path)
        assert samples["dreamer_disk_bytes",] == disk.total
        assert samples["dreamer_disk_free_bytes",] == pytest.approx(disk.free, rel=0.1)
    with PrometheusExporter(0, directory=tmp_path / "not_made_yet") as exporter:
        assert math.isnan(scrape(exporter)["dreamer_disk_free_bytes",])


def test_the_mean_return_is_that_of_the_last_hundred_training_episodes(exporter):
    def episodes(*returns):
        return tuple(
            EpisodeSummary(episode_return=value, length=3, policy_step=3) for value in returns
        )

    assert ("dreamer_episode_return_mean",) not in scrape(exporter)
    exporter.observe(Report(service="collector", values={}, episodes=episodes(100.0, 1.0)))
    assert scrape(exporter)["dreamer_episode_return_mean",] == 50.5
    exporter.observe(Report(service="collector", values={}, episodes=episodes(*[3.0] * 99)))
    assert scrape(exporter)["dreamer_episode_return_mean",] == (1 + 3 * 99) / 100
    exporter.observe(Report(service="evaluator", values={}, episodes=episodes(1000.0)))
    assert scrape(exporter)["dreamer_episode_return_mean",] == (1 + 3 * 99) / 100


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(BadInput, match=r"metrics cannot be served on 192\.0\.2\.1:0"):
        PrometheusExporter(0, address="192.0.2.1")


def test_closing_frees_the_port():
    exporter = PrometheusExporter(0)
    exporter.close()
    exporter.close()
    with pytest.raises(urllib.error.URLError):
        scrape(exporter)
    with PrometheusExporter(exporter.port) as again:
        assert again.port == exporter.port


def test_it_listens_on_loopback_only(exporter):
    assert exporter.address == "127.0.0.1"
    with socket.socket() as other, pytest.raises(OSError, match=r"."):
        other.connect(("127.0.0.2", exporter.port))


def test_two_exporters_do_not_share_values(exporter):
    report_total(exporter, 5)
    with PrometheusExporter(0) as other:
        assert ("dreamer_gradient_steps_total",) not in scrape(other)


def test_prometheus_is_told_of_a_run_by_a_file_while_it_runs(tmp_path):
    labels = {"run": "pong", "seed": "0"}
    with advertised(tmp_path / "targets", "runs_pong", "127.0.0.1:9464", labels):
        (file,) = (tmp_path / "targets").iterdir()
        assert file.name == "runs_pong.json"
        assert json.loads(file.read_text()) == [{"targets": ["127.0.0.1:9464"], "labels": labels}]
    assert not file.exists()


def test_a_run_that_failed_stays_told_of_with_its_end(tmp_path):
    with (
        pytest.raises(ValueError, match="a loss"),
        advertised(tmp_path, "pong", "127.0.0.1:9464", {"run": "pong"}),
    ):
        raise ValueError("a loss is not finite")
    (told,) = json.loads((tmp_path / "pong.json").read_text())
    assert told["labels"] == {"run": "pong", "ended": "failed"}
    with advertised(tmp_path, "pong", "127.0.0.1:9464", {"run": "pong"}):
        (told,) = json.loads((tmp_path / "pong.json").read_text())
        assert told["labels"] == {"run": "pong"}
    assert list(tmp_path.iterdir()) == []


def test_runs_whose_directories_have_the_same_name_are_told_apart(tmp_path, exporter):
    targets = tmp_path / "targets"
    run_dirs = (tmp_path / "one" / "pong", tmp_path / "other" / "pong")
    told = [
        told_to_prometheus(targets, run_dir, exporter, labels_of(preset("debug"), run_dir))
        for run_dir in run_dirs
    ]
    with told[0], told[1]:
        (first,), (second,) = (json.loads(file.read_text()) for file in sorted(targets.iterdir()))
    assert {first["labels"]["run"], second["labels"]["run"]} == set(map(str, run_dirs))


def test_a_run_whose_path_is_long_or_no_text_is_told_of_too(tmp_path, exporter):
    for name in ("a" * 150 + "/" + "ö" * 100, "\udcf6"):
        labels = labels_of(preset("debug"), tmp_path / name)
        with told_to_prometheus(tmp_path, tmp_path / name, exporter, labels):
            (found,) = tmp_path.glob("*.json")
            (group,) = json.loads(found.read_text())
            info = {"run": group["labels"]["run"]}
            with PrometheusExporter(0, info=info) as other:
                assert scrape(other)["dreamer_run_info", info["run"]] == 1


def test_an_address_of_ipv6_is_told_in_brackets(tmp_path):
    with PrometheusExporter(0, "::1") as exporter:
        place = f"[::1]:{exporter.port}"
        assert exporter.url == f"http://{place}/metrics"
        with told_to_prometheus(tmp_path, tmp_path, exporter, {}):
            assert targets_of_others(tmp_path, "another") == {place}


def test_without_a_directory_nobody_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with advertised(None, "pong", "127.0.0.1:9464", {}):
        assert list(tmp_path.iterdir()) == []
