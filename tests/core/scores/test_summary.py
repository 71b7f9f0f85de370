"""The report as values: games, aggregates over those that are there, and all of it as JSON."""

import json
import statistics

import pytest

from dreamer_core.scores.aggregate import AGGREGATES, aggregate
from dreamer_core.scores.scored import CollectedRuns, LeftOut, ScoredRun
from dreamer_core.scores.summary import Summary
from dreamer_core.scores.table import AGENTS, table_k1


def scored(game, score, seed=0, **more):
    return ScoredRun(game=game, score=score, seed=seed, source=f"{game}_{seed}", **more)


TWO_GAMES = CollectedRuns(
    runs=[
        scored("pong", 15.0, 0, to_frame=100.0, stamp={"mode": "greedy"}),
        scored("alien", 229.0, 0, to_frame=300.0, stamp={"mode": "sample"}),
        scored("pong", -3.0, 1, to_frame=200.0),
    ],
    left_out=[LeftOut("boxing_0", "it has none")],
)


def test_games_are_in_the_order_of_the_table_with_the_mean_and_spread_of_their_seeds():
    alien, pong = Summary(TWO_GAMES).games
    assert (alien.row.game, alien.mean, alien.deviation) == ("alien", 229, None)
    assert (pong.row.game, pong.mean, pong.frames) == ("pong", 6, (100, 200))
    assert pong.deviation == pytest.approx(statistics.stdev([15, -3]))


def test_missing_games_are_all_others():
    summary = Summary(TWO_GAMES)
    assert len(summary.missing) == 53 and not {"pong", "alien"} & set(summary.missing)


def test_the_papers_agents_are_aggregated_over_the_same_games():
    rows = table_k1()
    for agent in AGENTS:
        same = {game: [rows[game].of(agent)] for game in ("alien", "pong")}
        assert Summary(TWO_GAMES).references[agent] == aggregate(same)


def test_seeds_that_are_not_as_many_are_a_warning_and_stamps_that_differ_are_told():
    summary = Summary(TWO_GAMES)
    assert "different numbers of seeds" in summary.warnings[1]
    assert summary.warnings[2:] == [
        "not the protocol of the paper's columns: mode sample (the paper's: greedy)"
    ]
    assert summary.differences == [
        "mode: greedy for 1 run, sample for 1 run",
        "the protocol of 1 run is not known",
    ]
    assert summary.num_single == 1 and summary.fewest_seeds == 1


def test_runs_that_are_scored_at_other_frames_are_a_warning():
    assert (
        "scored at 100 to 300 frames; `dreamer scores --at-frames`"
        in Summary(TWO_GAMES).warnings[0]
    )
    near = [scored("pong", 1.0, 0, to_frame=100.0), scored("pong", 1.0, 1, to_frame=110.0)]
    assert Summary(CollectedRuns(runs=near)).warnings == []


def test_atari5_is_told_where_its_five_games_are_there():
    five = ("battle_zone", "double_dunk", "name_this_game", "phoenix", "qbert")
    runs = [scored(game, table_k1()[game].dreamerv2) for game in five]
    assert Summary(CollectedRuns(runs=runs)).atari5 == pytest.approx(2.03, abs=5e-3)
    assert Summary(CollectedRuns(runs=runs[1:])).atari5 is None


def test_json_holds_everything_and_no_nan():
    told = json.loads(json.dumps(Summary(TWO_GAMES).to_json(), allow_nan=False))
    assert [run["stamp"] for run in told["runs"]] == [{"mode": "greedy"}, {"mode": "sample"}, {}]
    assert list(told["aggregates"]) == list(AGGREGATES) and len(told["missing_games"]) == 53
    low, high = told["aggregates"]["gamer_mean"]["interval"]
    assert low == 0.25 and high == 0.5 and told["aggregates"]["gamer_mean"]["value"] == 0.375
    assert told["left_out"] == [{"source": "boxing_0", "reason": "it has none"}]
    assert told["games"][1]["by_gamer"] == 0.75 and told["references"]["iqn"]["iqm"] > 0
