"""`dreamer status` and `dreamer eval` on a run that has ended."""

import json
import re
import shutil

from PIL import Image

from tests.commands import SMALL, contents, plain


def test_checkpoints_at_a_url_are_named_shown_by_status_and_played_from(dreamer, tmp_path):
    url = f"memory://{tmp_path}"
    run = ("local", "debug", "--run-dir", "run", *SMALL, "--checkpoint.url", url)
    code, stdout, stderr = dreamer(*run)
    assert code == 0, stderr
    assert f"checkpoints: {url}" in plain(stdout) and not (tmp_path / "run/checkpoints").exists()
    status = plain(dreamer("status", "run")[1])
    assert "newest checkpoint gradient step 2, " in status and f" ago in {url} " in status
    assert dreamer("eval", "run", "--episodes", 1)[0] == 0
    message = dreamer(*run[:-1], f"{url}/elsewhere")[2]
    assert "checkpoint.url" in message and "Nothing was changed" in plain(message)


def test_status_goes_on_where_checkpoints_cannot_be_read(dreamer, copied):
    shutil.rmtree(copied / "checkpoints")
    assert "newest checkpoint none yet" in plain(dreamer("status", copied)[1])
    (copied / "checkpoints").write_text("")
    code, stdout, _ = dreamer("status", copied)
    assert code == 0 and "newest checkpoint unknown: Wanted to open" in plain(stdout)
    assert "checkpoints: Not a directory" in plain(stdout)
    assert "policy steps 60 of 60" in plain(stdout)


def test_status_says_where_a_run_stands(dreamer, finished):
    code, stdout, _ = dreamer("status", finished)
    assert code == 0
    for part in (
        "debug, task tests.learning.catch:make_env, seed 0",
        "not running",
        "policy steps 60 of 60 (100%)",
        "env frames 60",
        "gradient steps 2",
        "newest checkpoint gradient step 2",
        "last return",
    ):
        assert part in plain(stdout), part


def test_eval_plays_episodes_and_films_the_first(dreamer, finished, tmp_path):
    arguments = ("eval", finished, "--episodes", 2, "--video", tmp_path / "x.gif")
    code, stdout, _ = dreamer(*arguments)
    assert code == 0 and dreamer(*arguments)[1] == stdout  # the same seed, the same episodes
    returns = [float(x) for x in re.findall(r"episode \d: return (-?\d+), 49 policy", stdout)]
    assert len(returns) == 2 and all(-5 <= x <= 5 for x in returns)
    assert f"mean return {sum(returns) / 2:g} over 2 episodes, mode greedy" in stdout
    (protocol,) = re.findall("^protocol: .*", stdout, re.MULTILINE)
    assert protocol.startswith("protocol: episode_limit 27,000, suite gymnasium, action_repeat 1,")
    assert "sticky" not in protocol and "preset debug" in protocol
    with Image.open(tmp_path / "x.gif") as video:
        assert video.n_frames > 1


def test_eval_cuts_episodes_off_and_says_so(dreamer, finished):
    code, stdout, _ = dreamer("eval", finished, "--episodes", 1, "--episode-limit", 7)
    assert code == 0 and ", 7 policy steps (at --episode-limit)" in stdout


def test_eval_says_how_far_a_long_episode_is(dreamer, finished, monkeypatch):
    monkeypatch.setattr("dreamer_core.waiting._FIRST_S", 0.0)
    _, stdout, _ = dreamer("eval", finished, "--episodes", 1)
    assert "episode 1 goes on: 0 policy steps so far; it is cut off after 27,000" in plain(stdout)


def test_eval_plays_the_checkpoint_that_is_asked_for_and_says_how_it_filmed(
    dreamer, finished, tmp_path
):
    film = ("--video", tmp_path / "x.mp4")
    newest = dreamer("eval", finished, "--episodes", 1, *film)
    assert newest[0] == 0 and f"video {tmp_path}/x.mp4 (" in newest[1]
    assert dreamer("eval", finished, "--episodes", 1, "--checkpoint", 2, *film) == newest


def test_a_new_run_begins_with_the_networks_of_this_one(dreamer, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.parent)
    words = ("local", "debug", "--run-dir", tmp_path / "new", *SMALL, "--from")
    code, stdout, stderr = dreamer(*words, finished.name)
    assert code == 0, stderr
    assert "Began with the networks of" in plain(stdout)
    assert json.loads((tmp_path / "new/config.json").read_text())["init_from"] == str(finished)
    assert dreamer(*words, finished)[0] == 0


def test_export_writes_the_policy_and_says_its_inputs(dreamer, finished, tmp_path):
    code, stdout, _ = dreamer("export", finished, "--to", tmp_path / "policy.pt2")
    assert code == 0 and "policy of gradient step 2" in stdout and "1 x 64 x 64 x 1" in stdout
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt2"]


def test_eval_leaves_the_run_as_it_was(dreamer, finished):
    before = contents(finished)
    assert dreamer("eval", finished, "--episodes", 1, "--mode", "sample")[0] == 0
    assert contents(finished) == before
