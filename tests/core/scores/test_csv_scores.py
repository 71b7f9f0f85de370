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
        ('game,score\npong,"1\n', ":[12] is no line of a CSV file"),
        (b"game,score\n\xff\xfe,3\n", "is no text"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_line_and_cell(tmp_path, text, part):
    with pytest.raises(BadInput, match=part):
        read_csv(written(tmp_path, text))
