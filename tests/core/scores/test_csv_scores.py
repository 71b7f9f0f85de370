"""Scores in CSV files, and what is said of a wrong cell."""

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.scores.csv_scores import read_csv


def written(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_row_is_a_run(tmp_path):
    path = written(tmp_path, "game,score,seed,frames\nMs Pacman,1200.5,0,2e8\npong,-3,1,\n")
    first, second = read_csv(path).runs
    assert (first.game, first.score, first.seed, first.to_frame) == ("ms_pacman", 1200.5, 0, 2e8)
    assert (second.game, second.score, second.seed, second.to_frame) == ("pong", -3, 1, None)
    assert second.source == f"{path}:3" and second.stamp == {}


def test_game_and_score_are_enough_in_any_order_and_blank_lines_are_none(tmp_path):
    runs = read_csv(written(tmp_path, "score, game\n20, pong\n\n5, boxing\n")).runs
    assert [(run.game, run.score, run.seed) for run in runs] == [
        ("pong", 20, None),
        ("boxing", 5, None),
    ]


def test_another_column_can_be_the_score(tmp_path):
    runs = read_csv(written(tmp_path, "game,iqn,ours\npong,20,7\n"), column="ours").runs
    assert runs[0].score == 7


def test_the_two_games_that_the_paper_leaves_out_are_left_out(tmp_path):
    found = read_csv(written(tmp_path, "game,score\ndefender,3\npong,2\n"))
    assert [run.game for run in found.runs] == ["pong"]
    assert found.left_out[0].source.endswith(":2") and "defender" in found.left_out[0].reason


CURVE = "game,score,seed,frames\npong,3,0,3e6\npong,1,0,1e6\npong,2,0,2e6\npong,9,1,2e6\n"


def scores(found):
    return [(run.seed, run.score, run.to_frame) for run in found.runs]


def test_of_a_curve_the_newest_row_is_the_score(tmp_path):
    assert scores(read_csv(written(tmp_path, CURVE))) == [(0, 3, 3e6), (1, 9, 2e6)]


@pytest.mark.parametrize("at_frames", [2_000_000, 2_099_999])
def test_at_a_frame_it_is_the_newest_row_before(tmp_path, at_frames):
    found = read_csv(written(tmp_path, CURVE), at_frames=at_frames)
    assert scores(found) == [(0, 2, 2e6), (1, 9, 2e6)] and found.left_out == []


@pytest.mark.parametrize(
    ("at_frames", "reason"),
    [
        (
            2_100_001,
            "it is not there yet: it has come to 2,000,000 frames of --at-frames 2,100,001",
        ),
        (1_900_000, "it was first evaluated after --at-frames 1,900,000; ask for more"),
    ],
)
def test_a_row_that_is_not_of_the_frame_is_left_out(tmp_path, at_frames, reason):
    found = read_csv(written(tmp_path, CURVE), at_frames=at_frames)
    assert [run.seed for run in found.runs] == [0]
    assert found.left_out[0].source.endswith(":5") and reason in found.left_out[0].reason


def test_a_curve_with_a_hole_is_left_out_there(tmp_path):
    rows = "".join(f"pong,1,0,{frame}e6\n" for frame in (1, 2, 3, 9))
    found = read_csv(written(tmp_path, f"game,score,seed,frames\n{rows}"), at_frames=5_000_000)
    assert found.runs == [] and len(found.left_out) == 1
    assert "is at 3,000,000, more than one interval of 1,000,000" in found.left_out[0].reason


def test_rows_without_frames_or_a_seed_are_no_curve(tmp_path):
    text = "game,score,seed,frames\npong,1,0,\npong,2,0,\npong,3,,1e6\npong,4,,2e6\n"
    path = written(tmp_path, text)
    assert [run.score for run in read_csv(path).runs] == [1, 2, 3, 4]
    at_2m = read_csv(path, at_frames=2_000_000)
    assert [run.score for run in at_2m.runs] == [1, 2, 4]
    assert at_2m.left_out[0].source == f"{path}:4"


def test_two_rows_of_one_seed_and_frame_are_both_there(tmp_path):
    text = "game,score,seed,frames\npong,1,0,5\npong,2,0,5\n"
    assert [run.score for run in read_csv(written(tmp_path, text)).runs] == [1, 2]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", r":1: wanted a header .* the columns are none"),
        ("game,points\npong,3\n", r":1: wanted a header .* columns are game, points"),
        ("game,score\n", "holds no score"),
        ("game,score\npong,3\npongg,4\n", r":3: There is no game 'pongg'.* did you mean pong"),
        ("game,score\npong,many\n", r":2: score is 'many'; wanted a number"),
        ('game,score\npong,"1,000"\n', r":2: score is '1,000'; wanted a number, without commas"),
        ("game,score\npong,nan\n", r":2: score is 'nan'; wanted a finite number"),
        ("game,score\npong,\n", ":2: the score of pong is empty"),
        ("game,score\npong\n", ":2: wanted as many cells as the header has"),
        ("game,score\npong,1,2\n", ":2: wanted as many cells as the header has"),
        ("game,score,seed\npong,1,a\n", r":2: seed is 'a'; wanted a number"),
        ("game,score,seed\npong,1,1.5\n", r":2: seed is '1.5'; wanted a whole number"),
        ("game,score,frames\npong,1,x\n", r":2: frames is 'x'; wanted a number"),
        ("game,score,frames\npong,1,5\npong,1,0\n", r":3: frames is '0'; wanted 1 or more"),
        ("game,score,frames\npong,1,-2e8\n", r":2: frames is '-2e8'; wanted 1 or more"),
        ("game,score\npong,1e308\npong,1e308\n", r":2: score is '1e308'; .* at most 1e\+100"),
        ('game,score\npong,"1\n', ":[12] is no line of a CSV file"),
        ('{"game": "pong", "score": 1}\n', ":1 is no line of a CSV file"),
        (b"game,score\n\xff\xfe,3\n", "is no text"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_line_and_cell(tmp_path, text, part):
    with pytest.raises(BadInput, match=part):
        read_csv(written(tmp_path, text))
