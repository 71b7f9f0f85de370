"""Which episodes of a run are its score, and why a run has none."""

import json
from pathlib import Path

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.report.history import RunHistory
from dreamer_core.scores.runs import Wanted, collect
from tests.core.scores.examples import as_text, line, write_run

EVERY_100K = {"interval_frames": 100_000, "episodes": 1, "mode": "greedy", "episode_limit": 27_000}
STEP = 25_000  # policy steps of 100,000 frames


def evaluated(count, first=1.0):
    """Evaluations at 100,000, 200,000, ... frames that return first, first + 1, ..."""
    return [line(STEP * (k + 1), first + k) for k in range(count)]


def one(path, **wanted):
    found = collect([path], Wanted(**wanted))
    assert (len(found.runs), found.left_out) == (1, [])
    return found.runs[0]


def reason(path, **wanted):
    found = collect([path], Wanted(**wanted))
    assert found.runs == [] and len(found.left_out) == 1
    return found.left_out[0].reason


def test_a_run_is_scored_by_its_last_ten_evaluations(tmp_path):
    run = one(write_run(tmp_path / "run", evaluated(12), task="boxing", seed=3))
    assert (run.game, run.seed, run.score, run.episodes) == ("boxing", 3, 7.5, 10)
    assert (run.from_frame, run.to_frame) == (300_000, 1_200_000)


def test_at_a_frame_it_is_scored_by_the_ten_before(tmp_path):
    run_dir = write_run(tmp_path / "run", evaluated(12), evaluation=EVERY_100K)
    run = one(run_dir, at_frames=1_100_000)
    assert (run.score, run.to_frame) == (6.5, 1_100_000)
    assert one(run_dir, at_frames=1_299_999).score == 7.5, "less than an interval more"


@pytest.mark.parametrize(
    ("set_to", "count", "interval"),
    [(200_000, 2, 100_000), (50_000, 2, 100_000), (200_000, 1, 200_000), (101_000, 2, 101_000)],
)
def test_the_interval_is_what_is_measured_unless_that_is_near_what_is_set(
    tmp_path, set_to, count, interval
):
    evaluation = EVERY_100K | {"interval_frames": set_to}
    run_dir = write_run(tmp_path / "run", evaluated(count), evaluation=evaluation)
    furthest = count * 100_000 + interval
    assert one(run_dir, at_frames=furthest).stamp["evaluation_interval_frames"] == interval
    assert "not there yet" in reason(run_dir, at_frames=furthest + 1)


def spread(tmp_path, *hundred_thousands, set_to):
    lines = [line(round(STEP * each), 1.0) for each in hundred_thousands]
    evaluation = EVERY_100K | {"interval_frames": set_to}
    return collect([write_run(tmp_path / "run", lines, evaluation=evaluation)], Wanted()).warnings


@pytest.mark.parametrize(
    ("hundred_thousands", "set_to", "words"),
    [
        ((1, 2, 3), 49_999, "are 100,000 frames apart and not 49,999, as its config.json says"),
        ((1, 2), 200_001, "are 100,000 frames apart and not 200,001"),
        ((1, 2, 5), 100_000, "are 100,000 to 300,000 frames apart and not 100,000, as its"),
        ((1, 2, 5), 100_000, "they span 400,000 frames of the run"),
    ],
)
def test_evaluations_that_are_not_apart_as_set_are_a_warning(
    tmp_path, hundred_thousands, set_to, words
):
    (warning,) = spread(tmp_path, *hundred_thousands, set_to=set_to)
    assert words in warning and warning.startswith(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("hundred_thousands", "set_to"),
    [
        ((1, 2), 50_000),
        ((1, 2), 200_000),
        ((1, 1.03), 100_000),
        ((1, 2, 2.03), 100_000),
        ((9,), 100_000),
    ],
)
def test_evaluations_within_twice_the_interval_and_one_at_the_end_are_none(
    tmp_path, hundred_thousands, set_to
):
    assert spread(tmp_path, *hundred_thousands, set_to=set_to) == []


@pytest.mark.parametrize("evaluation", [EVERY_100K, None])
def test_a_run_that_has_not_come_so_far_is_left_out(tmp_path, evaluation):
    run_dir = write_run(tmp_path / "run", evaluated(12), evaluation=evaluation)
    words = reason(run_dir, at_frames=1_300_001)
    assert "not there yet: it has come to 1,200,000 frames of --at-frames 1,300,001" in words


def test_a_run_that_stopped_being_evaluated_is_left_out(tmp_path):
    lines = [*evaluated(2), line(STEP * 9, service="learner")]
    words = reason(write_run(tmp_path / "run", lines), at_frames=900_000)
    assert "at 200,000, more than one interval of 100,000 frames before" in words


def test_a_frame_before_the_first_evaluation_is_left_out(tmp_path):
    words = reason(write_run(tmp_path / "run", evaluated(2)), at_frames=99_999)
    assert "first evaluated after --at-frames 99,999" in words


def test_a_resumed_run_is_scored_by_what_it_reported_last(tmp_path):
    lines = [*evaluated(4), line(STEP + 1, service="collector"), line(2 * STEP, 20.0)]
    run = one(write_run(tmp_path / "run", lines))
    assert (run.score, run.episodes) == ((1 + 20) / 2, 2)


def test_a_run_without_evaluations_is_left_out_with_what_to_do(tmp_path):
    run_dir = write_run(tmp_path / "run", [line(10, 3.0, service="collector")])
    assert "--evaluation.interval-frames" in reason(run_dir)
    assert "--returns training" in reason(run_dir)


def test_a_run_of_the_other_mode_is_left_out_with_what_to_do(tmp_path):
    run_dir = write_run(tmp_path / "run", [line(STEP, 3.0, mode="sample")])
    assert "it has 1 of mode sample: score those with --mode" in reason(run_dir)
    assert one(run_dir, mode="sample").stamp["mode"] == "sample"


def test_a_run_whose_returns_are_no_scores_is_left_out(tmp_path):
    run_dir = write_run(tmp_path / "run", [line(STEP, 1e308, 1e308)])
    assert "its score of inf is none of a game" in reason(run_dir)


def test_rows_of_a_csv_file_are_compared_at_the_frame_too(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("game,score,seed,frames\npong,1,0,1e6\npong,2,0,2e6\nboxing,3,0,2e8\n")
    found = collect([path], Wanted(at_frames=1_000_000))
    assert [(run.game, run.score) for run in found.runs] == [("pong", 1)]
    assert "first evaluated after --at-frames 1,000,000" in found.left_out[0].reason


def test_training_returns_go_by_their_own_name(tmp_path):
    lines = [*evaluated(1), *(line(100 + k, float(k), service="collector") for k in range(102))]
    run = one(write_run(tmp_path / "run", lines), returns="training")
    assert (run.score, run.episodes) == (sum(range(2, 102)) / 100, 100)
    assert run.stamp["returns"] == "training episodes"


def test_training_that_has_not_come_so_far_is_left_out(tmp_path):
    run_dir = write_run(tmp_path / "run", [line(100, 1.0, service="collector")])
    assert one(run_dir, returns="training", at_frames=400).score == 1.0
    assert "not there yet" in reason(run_dir, returns="training", at_frames=401)


def test_damaged_lines_are_left_out_with_a_warning(tmp_path):
    run_dir = write_run(tmp_path / "run", evaluated(1))
    with (run_dir / "metrics.jsonl").open("a") as log:
        log.write('{"half": \n' + as_text(line(2 * STEP, 4.0)) + '{"torn')
    found = collect([run_dir], Wanted())
    assert found.runs[0].score == 2.5
    assert len(found.warnings) == 1 and "1 damaged line: " in found.warnings[0]
    assert "metrics.jsonl:2" in found.warnings[0]


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ("{", "cannot be read as a config"),
        ("[]", "cannot be read as a config"),
        ('{"env": 3}', "cannot be read as a config: env is no section"),
        ('{"evaluation": null}', "evaluation is no section"),
        ('{"behavior": {"discount": NaN}}', "NaN is no finite number"),
        ('{"behavior": {"discount": 1e999}}', "1e999 is no finite number"),
        ('{"seed": [1]}', "seed is [1]; wanted a whole number of 0 or more. Restore it"),
        ('{"seed": null}', "seed is null; wanted"),
        ('{"env": {"action_repeat": null}}', "env.action_repeat is null; wanted a whole number"),
        ('{"env": {"action_repeat": true}}', "env.action_repeat is true; wanted"),
        ('{"env": {"time_limit_steps": "x"}}', "of 1 or more or null"),
        ('{"evaluation": {"episode_limit": null}}', "evaluation.episode_limit is null; wanted"),
        ('{"evaluation": {"interval_frames": "x"}}', 'evaluation.interval_frames is "x"; wanted'),
        ('{"evaluation": {"interval_frames": 0}}', "evaluation.interval_frames is 0; wanted"),
        ('{"evaluation": {"episodes": 1e9}}', "evaluation.episodes is 1000000000.0; wanted"),
        ('{"env": {"suite": "control", "task": "walker_walk"}}', "suite control"),
        ('{"env": {"suite": "atari", "task": "defender"}}', "none of the paper's games"),
        ('{"env": {"suite": "atari", "task": "pongg"}}', "did you mean pong"),
    ],
)
def test_a_run_that_cannot_be_scored_is_left_out_and_the_others_are_scored(tmp_path, config, part):
    bad, good = (write_run(tmp_path / name, evaluated(1)) for name in ("bad", "good"))
    (bad / "config.json").write_text(config)
    found = collect([bad, good], Wanted())
    assert [run.source for run in found.runs] == [str(good)]
    assert part in found.left_out[0].reason


def sweep(root, *runs, games=("pong", "boxing"), seeds=(0, 1)):
    for game, seed in runs:
        write_run(root / f"{game}_{seed}", evaluated(1, seed), task=game, seed=seed)
    (root / "logs").mkdir(parents=True)
    (root / "sweep.json").write_text(json.dumps({"id": "x", "games": games, "seeds": seeds}))
    return root


def test_a_sweep_is_scored_run_by_run_and_says_how_many_are_not_begun(tmp_path):
    root = sweep(tmp_path / "sweep", ("pong", 0), ("pong", 1), ("boxing", 0))
    found = collect([root], Wanted())
    scored = [(run.game, run.seed, run.score) for run in found.runs]
    assert scored == [("boxing", 0, 0.0), ("pong", 0, 0.0), ("pong", 1, 1.0)]
    assert [each.reason.split(";")[0] for each in found.left_out] == ["1 of its runs are not begun"]


def test_a_run_that_is_named_twice_counts_once(tmp_path):
    root = sweep(tmp_path / "sweep", ("pong", 0), games=["pong"], seeds=[0])
    found = collect([root, root / "pong_0", Path(f"{root}/../sweep/pong_0")], Wanted())
    assert len(found.runs) == 1 and found.warnings == []


def test_one_seed_of_a_game_in_two_places_is_a_warning(tmp_path):
    copies = [write_run(tmp_path / name, evaluated(1)) for name in "ab"]
    found = collect(copies, Wanted())
    assert len(found.runs) == 2 and "pong with seed 0 is there 2 times" in found.warnings[0]


def test_a_path_that_is_nothing_to_score_is_refused_with_what_to_name(tmp_path):
    write_run(tmp_path / "run", evaluated(1))
    with pytest.raises(BadInput, match=r"1 directory in it is a run: name .*/\*"):
        collect([tmp_path], Wanted())
    with pytest.raises(BadInput, match="There is no"):
        collect([tmp_path / "nowhere"], Wanted())
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds neither a run"):
        collect([tmp_path / "empty"], Wanted())


def test_a_path_that_no_file_system_takes_is_refused():
    with pytest.raises(BadInput, match=r"Wanted to read xxx.* too long"):
        collect([Path("x" * 300)], Wanted())


def test_a_damaged_sweep_is_refused(tmp_path):
    (tmp_path / "sweep.json").write_text('{"games": ["pong"]}')
    with pytest.raises(BadInput, match=r"sweep\.json cannot be read as a sweep"):
        collect([tmp_path], Wanted())


def test_a_run_without_a_log_is_left_out(tmp_path):
    run_dir = write_run(tmp_path / "run", [])
    (run_dir / "metrics.jsonl").unlink()
    assert "no greedy evaluation episodes" in reason(run_dir)
    assert "no finished training episode" in reason(run_dir, returns="training")


def test_evaluations_that_were_read_already_are_not_read_again(tmp_path):
    run_dir = write_run(tmp_path / "run", [])
    read = RunHistory()
    for each in evaluated(3):
        read.take(each)
    (run,) = collect([run_dir], Wanted(), {run_dir: read}).runs
    assert run.episodes == 3
