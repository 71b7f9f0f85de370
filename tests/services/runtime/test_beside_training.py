"""Evaluators and the exchange die, hang and have bugs; training goes on (on a simulated host)."""

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.report.report import Report
from tests.services.runtime.taped_run import TapedRun, error

ALL = (32, 8)


def test_an_evaluator_that_dies_stops_nothing_and_the_next_evaluation_starts_another(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=8)
    run.when("evaluator-0", "evaluate", 1, run.kill("evaluator-0"))
    assert run.run().counts == ALL
    assert run.starts("evaluator-0") >= 2 and run.starts("collector") == 1


def test_an_exchange_that_dies_is_replaced_and_gets_the_newest_weights(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["take"] = 0.1
    lost_s, posts = [], []

    def die(process):
        lost_s.append(run.host.now_s())
        run.host.die(process)

    run.when("exchange", "take", 3, die)
    run.when("exchange", "post", "each", lambda _: posts.append(run.host.now_s()))
    assert run.run().counts == ALL
    published = [at for at, call in run.calls if call == ("learner", "snapshot")]
    assert run.starts("exchange") == 2 and min(published) < lost_s[0]
    assert any(lost_s[0] < at < lost_s[0] + 1.0 for at in posts), "no earlier than the next weights"


def test_a_silent_evaluator_is_ended_and_costs_training_nothing(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=8)
    run.seconds["collect"] = 10.0
    run.when("evaluator-0", "evaluate", 1, run.freeze("evaluator-0"))
    run.when("collector", "collect", 4, run.freeze("evaluator-0"))
    assert run.run().counts == ALL
    assert run.total("dreamer_errors_total", "evaluator") >= 1 and run.starts("collector") == 1


@pytest.mark.parametrize(("service", "verb"), [("evaluator-0", "evaluate"), ("exchange", "take")])
def test_a_bug_beside_training_is_logged_with_its_trace_and_training_goes_on(
    tmp_path, caplog, service, verb
):
    run = TapedRun(tmp_path, evaluate_every=8)
    run.when(service, verb, 1, error(TypeError("no such argument")))
    assert run.run().counts == ALL
    told = [record for record in caplog.records if "A bug in the" in record.getMessage()]
    assert [record.levelname for record in told] == ["ERROR"]
    assert "raise exception\nTypeError: no such argument" in caplog.text


def test_what_an_evaluator_refuses_is_no_bug(tmp_path, caplog):
    run = TapedRun(tmp_path, evaluate_every=8)
    run.when("evaluator-0", "evaluate", 1, error(BadInput("no such game on this host")))
    assert run.run().counts == ALL
    assert "no such game" in caplog.text and "A bug" not in caplog.text


@pytest.mark.parametrize("number", range(1, 8))
def test_what_a_guest_found_is_in_the_run_once_though_exchanges_die(tmp_path, number):
    run = TapedRun(tmp_path)
    run.seconds.update(take=0.1, collect=5.0)
    noted, found = 0, [Report(service="guest", labels={"number": i}) for i in range(6)]

    def visit(_process):
        nonlocal noted
        exchange = run.host.process("exchange")
        if exchange is not None and exchange.service is not None:
            noted += exchange.service.leave("guest", noted, found[noted : noted + 2]) - noted

    run.when("collector", "collect", "each", visit)
    run.when("exchange", "take", number, run.kill("exchange"))
    run.when("exchange", "post", 3, run.kill("exchange"))
    assert run.run().counts == ALL
    assert run.starts("exchange") >= 2
    noted_reports = [report for report in run.reports if report.service == "guest"]
    assert all(report.labels["guest"] is True for report in noted_reports)  # no score of the run
    told = [report.labels["number"] for report in noted_reports]
    assert told == sorted(set(told)) and len(told) >= noted > 0
