"""The page as a whole: what it says of which runs, and that it is HTML."""

import re

import pytest

from dreamer_core.page.contents import read_contents
from dreamer_core.page.looks import Look
from dreamer_core.page.page import page
from dreamer_core.scores.table import table_k1
from tests.core.page.examples import (
    STEP,
    Parsed,
    a_look,
    a_run,
    append,
    no_look,
    reported,
    with_config,
)
from tests.core.scores.examples import write_run


def made(*paths, look=no_look, **options):
    return page(read_contents(paths, look, **options))


def headings(content):
    return re.findall(r"<h2[^>]*>([^<]*)", content)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Of two presets on two games, two seeds each."""
    place = tmp_path_factory.mktemp("runs")
    runs = []
    for preset, value in (("atari", 10.0), ("no_layer_norm", 5.0)):
        for task in ("pong", "boxing"):
            for seed in (0, 1):
                run_dir = place / f"{preset}_{task}_{seed}"
                runs.append(
                    a_run(run_dir, (value, value + seed), task=task, seed=seed, preset=preset)
                )
    return made(*runs, look=a_look)


def test_it_is_one_file_of_balanced_html_that_asks_for_nothing(content):
    parsed = Parsed(content)
    for tag, attributes in parsed.attributes:
        assert "src" not in attributes, tag
        for name in ("href", "style"):
            assert "http" not in attributes.get(name, "")
    ids = [x["id"] for _, x in parsed.attributes if "id" in x]
    assert len(ids) == len(set(ids))
    links = [x["href"] for tag, x in parsed.attributes if tag == "a"]
    assert links and {link[1:] for link in links} <= set(ids)


def test_every_section_is_there_in_its_order(content):
    assert headings(content) == [
        *("Scores", "Over all games", "Who beats whom", "Learning", "World model", "Episodes"),
        *("Runs", "Settings"),
    ]


def test_scores_stand_beside_the_papers_players(content):
    rows = Parsed(content).rows
    beside = ["0", "12", "100", "92", "98", "99"]
    assert ["boxing", "atari", "10.2", "10 to 10.5", "2", "2", "200k", *beside] in rows
    assert any(row[:3] == ["pong", "no_layer_norm", "5.2"] for row in rows)


def test_a_preset_that_always_wins_beats_the_other_with_certainty(content):
    found = re.findall(r'<td class="number odds (\w+)"[^>]*><b>(\d+%)</b>', content)
    assert found == [("won", "100%"), ("lost", "0%")]


def test_films_and_curves_have_names_for_those_who_cannot_see_them(content):
    pictures = [x for _, x in Parsed(content).attributes if x.get("role") == "img"]
    assert len(pictures) > 20
    assert (
        content.count("<svg") == content.count("<svg viewBox=") == content.count('"chart"><title>')
    )


def test_runs_are_looked_at_one_of_each_task_and_preset_and_not_more_than_asked_for(tmp_path):
    for seed in (0, 1):
        for task in ("pong", "boxing"):
            a_run(tmp_path / f"{task}_{seed}", task=task, seed=seed)
    checkpoints = tmp_path / "pong_1" / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "LATEST").touch()
    seen = []

    def look(record):
        seen.append(record.run_dir.name)
        return Look()

    made(*sorted(tmp_path.iterdir()), look=look)
    assert seen == ["boxing_0", "pong_1"]  # the one of pong that has a checkpoint
    made(*sorted(tmp_path.iterdir()), look=look, most_pictured=1)
    assert len(seen) == 3


def test_what_comes_from_a_config_is_escaped(tmp_path):
    evil = "</script><script>alert(1)</script>"
    gym = {"suite": "gymnasium", "task": evil}
    run_dir = with_config(a_run(tmp_path / "run", env=gym), preset=evil)
    content = made(run_dir, look=lambda _: Look(missing=(evil,)))
    assert evil not in content and "&lt;/script&gt;&lt;script&gt;alert" in content
    Parsed(content)


def test_a_run_that_is_no_game_of_the_paper_has_no_column_of_it(tmp_path):
    gym = {"suite": "gymnasium", "task": "x:make"}
    content = made(a_run(tmp_path / "run", env=gym))
    text = Parsed(content).text
    assert "gamer median" not in text and "IQN" not in text
    assert "x:make" in text and headings(content) == ["Scores", "Learning", "Runs", "Settings"]


def test_a_run_hardly_begun_says_what_is_not_there(tmp_path):
    text = Parsed(made(write_run(tmp_path / "run", []))).text
    assert "not begun" in text and "no episode has ended yet" in text
    assert "Runs without a score (1)" in text


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for place in ("a", "b"):
        a_run(tmp_path / place / "run", seed=ord(place))
    content = made(tmp_path / "a" / "run", tmp_path / "b" / "run")
    assert content.count(f">{tmp_path}/a/run<") == content.count(f">{tmp_path}/b/run<") == 1


def test_runs_that_differ_are_told_with_a_line_for_each_difference(tmp_path):
    a_run(tmp_path / "a")
    a_run(tmp_path / "b", task="boxing", env={"task": "boxing", "sticky_action_probability": 0.0})
    text = Parsed(made(tmp_path / "a", tmp_path / "b")).text
    assert "sticky_action_probability: 0.25 for 1 run, 0 for 1 run" in text
    assert "sticky action probability0.25 or 0" in text


def test_a_run_without_a_score_differs_in_nothing(tmp_path):
    runs = [a_run(tmp_path / "a"), write_run(tmp_path / "b", [], task="boxing")]
    assert "To be known" not in Parsed(made(*runs)).text


def test_a_seed_that_two_presets_have_is_no_warning_and_one_that_is_there_twice_is(tmp_path):
    runs = [a_run(tmp_path / "a"), a_run(tmp_path / "b", preset="no_layer_norm")]
    assert "To be known" not in Parsed(made(*runs)).text
    text = Parsed(made(*runs, a_run(tmp_path / "c"))).text
    assert "pong with seed 0 is there 2 times" in text


def test_damage_is_told_at_the_top(tmp_path):
    append(a_run(tmp_path / "run"), "{}\n")
    text = Parsed(made(tmp_path / "run")).text
    assert text.count("damaged line") == 1 and text.index("damaged line") < text.index("Learning")


def test_what_differs_from_the_preset_is_listed_with_the_presets_value(tmp_path):
    content = made(a_run(tmp_path / "run", behavior={"horizon": 5}))
    row = '<th scope="row">behavior.horizon</th><td>5</td><td>15</td>'
    assert row in content
    assert made(a_run(tmp_path / "known", preset="<new>")).count("knows no preset &lt;new&gt;") == 1


def test_many_games_stay_small(tmp_path):
    for k, game in enumerate(list(table_k1())[:20]):
        run_dir = a_run(tmp_path / game, task=game, seed=k)
        append(run_dir, *(reported(4 * STEP + i, dreamer_kl_nats=1.0) for i in range(300)))
    content = made(*tmp_path.iterdir())
    assert len(content) < 800_000 and "Over 20 of the paper" in content
