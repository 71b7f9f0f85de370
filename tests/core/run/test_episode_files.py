"""Episodes of other programs: read with their alignment, or refused by file and key."""

import json
import sys
from contextlib import suppress
from dataclasses import replace

import h5py
import numpy as np
import pytest

from dreamer_core.errors import BadInput
from dreamer_core.run.episode_files import find_files, read_files
from dreamer_core.types import EnvSpec

SHAPE = (64, 64, 1)
SPEC = EnvSpec(image_shape=SHAPE, action_size=3, is_discrete=True, action_names=None)
BOX = EnvSpec(image_shape=SHAPE, action_size=2, is_discrete=False, action_names=None)
ROWS = 6
STEP = np.arange(ROWS)
CHOICES = np.array([0, 2, 1, 1, 0])
ACTION = np.concatenate([np.zeros((1, 3)), np.eye(3)[CHOICES]]).astype(np.float16)
IMAGE = np.broadcast_to(STEP[:, None, None, None], (ROWS, *SHAPE)).astype(np.uint8)
AUTHORS = {
    "image": IMAGE,
    "action": ACTION,
    "reward": STEP.astype(np.float16),
    "is_first": STEP == 0,
    "is_last": STEP == 5,
    "is_terminal": STEP == 5,
}
OLDER = {
    **{name: AUTHORS[name] for name in ("image", "action", "reward")},
    "discount": 1.0 - (STEP == 5),
    "reset": STEP == 0,
}
OURS = {
    **{name: AUTHORS[name] for name in ("image", "is_first", "is_last", "is_terminal")},
    "prev_action": ACTION.astype(np.float32),
    "reward": STEP.astype(np.float32),
    "incarnation": 3,
    "episode": 7,
    "first_step": 0,
    "is_complete": True,
}


def read(*paths, spec=SPEC):
    return list(read_files(find_files(paths), spec))


def saved(path, columns):
    np.savez(path, **columns)
    return path


@pytest.mark.parametrize(("columns", "place"), [(AUTHORS, (0, 0)), (OLDER, (0, 0)), (OURS, (3, 7))])
def test_each_layout_gives_the_same_rows(tmp_path, columns, place):
    (episode,) = read(saved(tmp_path / "a.npz", columns))
    assert (episode.incarnation, episode.episode) == place
    assert np.array_equal(episode.image, IMAGE) and episode.reward.tolist() == STEP.tolist()
    assert episode.prev_action[1:].argmax(1).tolist() == CHOICES.tolist()
    assert not episode.prev_action[0].any() and episode.prev_action.dtype == np.float32
    assert episode.is_last.tolist() == episode.is_terminal.tolist() == [False] * 5 + [True]


def test_a_part_of_an_episode_keeps_its_place(tmp_path):
    part = {**OURS, "first_step": 2, "is_first": STEP < 0, "reward": STEP + np.float32(2)}
    part["prev_action"] = np.eye(3, dtype=np.float32)[[0, *CHOICES]]
    (episode,) = read(saved(tmp_path / "a.npz", part))
    assert (episode.first_step, episode.is_first.any()) == (2, False)


def test_choices_given_as_numbers_have_a_zero_where_there_is_no_action(tmp_path):
    (episode,) = read(saved(tmp_path / "a.npz", {**AUTHORS, "action": np.array([0, *CHOICES])}))
    assert np.array_equal(episode.prev_action, ACTION)
    path = saved(tmp_path / "a.npz", {**AUTHORS, "action": np.array([2, *CHOICES])})
    with pytest.raises(BadInput, match="wanted no action and no reward in row 0"):
        read(path)


@pytest.mark.parametrize(
    ("is_over", "first_step", "words"),
    [(0, 5, "holds it up to step 5"), (0, 6, None), (0, 8, None), (1, 8, "ends it with step 5")],
)
def test_rows_are_taken_once_and_none_after_an_end(tmp_path, is_over, first_step, words):
    is_end = (STEP == 5) & bool(is_over)
    later = {"first_step": first_step, "is_first": STEP < 0, "prev_action": np.eye(3)[[0] * 6]}
    saved(tmp_path / "a.npz", {**OURS, "is_last": is_end, "is_terminal": is_end})
    saved(tmp_path / "b.npz", {**OURS, **later})
    if words is None:
        assert [each.first_step for each in read(tmp_path)] == [0, first_step]
        return
    with pytest.raises(BadInput, match=rf"b\.npz: begins at step {first_step}.*a\.npz {words}"):
        read(tmp_path)


def test_episodes_come_by_their_names_or_else_by_those_of_the_files(tmp_path):
    for number in (10, 9, 8):
        saved(tmp_path / f"e{number}.npz", {**OURS, "episode": 20 - number})
    assert [each.episode for each in read(tmp_path)] == [10, 11, 12]
    for number in (10, 9, 8):
        saved(tmp_path / f"e{number}.npz", {**AUTHORS, "reward": number * STEP})
    assert [each.reward[1] for each in read(tmp_path)] == [8, 9, 10]
    assert [each.episode for each in read(tmp_path)] == [0, 1, 2]


def test_episodes_of_two_runs_are_numbered_anew(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        saved(tmp_path / run / "e.npz", OURS)
    episodes = read(tmp_path / "a", tmp_path / "b", tmp_path / "a")
    assert [(each.incarnation, each.episode) for each in episodes] == [(0, 0), (0, 1)]


SHIFTED = np.concatenate([ACTION[1:], ACTION[:1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": SHIFTED}, r"a\.npz: wanted no action and no reward in row 0.*down by one row"),
        ({"reward": STEP + 1}, r"row 0, got action .* and reward 1\b"),
        ({"action": ACTION * 2}, "action in row 1: wanted one-hot of 3 choices"),
        ({"action": ACTION[:, :2]}, r"a\.npz: prev_action must be \(6, 3\)"),
        ({"action": np.array([0, 9, 0, 0, 0, 0])}, "action: wanted choices from 0 to 2"),
        ({"action": np.array(["up"] * 6)}, "action: wanted an array of numbers"),
        ({"image": IMAGE.astype(np.float32)}, "image must be uint8"),
        ({"image": IMAGE[:, :32]}, r"image must be \(6, 64, 64, 1\)"),
        ({"image": IMAGE[:5]}, "as many rows, got image 5, prev_action 6"),
        ({"reward": np.where(STEP == 2, np.nan, STEP)}, "reward holds values that are not finite"),
        ({"is_first": STEP == 1}, "is_first must be true in row 0"),
        ({"is_last": STEP == 3}, "is_last must be true in the last row only"),
        ({"is_terminal": STEP}, "is_terminal: wanted an array of true and false"),
        ({"reward": np.array([{}] * 6)}, "reward cannot be read"),
        ({**OURS, "incarnation": "one"}, r"a whole number each in incarnation.*got <U3 \(\)"),
        ({**OURS, "episode": 0.5}, "a whole number each in incarnation"),
        ({"reward": STEP * 1e300}, "reward holds values that are not finite"),
        ({"image": None}, "wanted the key 'image', but there are action"),
        ({"is_terminal": None}, "wanted the key 'is_terminal'"),
        ({"is_terminal": None, "discount": STEP * np.nan}, "discount: wanted numbers from 0 to 1"),
    ],
)
def test_what_is_malformed_is_told_with_file_and_key(tmp_path, change, words):
    columns = {k: v for k, v in {**AUTHORS, **change}.items() if v is not None}
    path = saved(tmp_path / "a.npz", columns)
    with pytest.raises(BadInput, match=words) as told:
        read(path)
    assert str(path) in str(told.value)


def test_numbers_are_wanted_where_they_are_seen_and_images_where_those_are(tmp_path):
    spec = replace(SPEC, vector_size=2, image_shape=(64, 64, 0))
    path = saved(tmp_path / "a.npz", {k: v for k, v in AUTHORS.items() if k != "image"})
    with pytest.raises(BadInput, match=r"wanted the key 'vector'.*vector where the environment"):
        read(path, spec=spec)
    with np.load(path) as file:
        saved(path, {**file, "vector": np.ones((ROWS, 2))})
    (episode,) = read(path, spec=spec)
    assert episode.image.shape == (ROWS, 64, 64, 0) and episode.vector.all()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no zip", b"\x80\x04K\x01."])
def test_a_file_that_is_none_is_told(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.npz"):
        read(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_byte_is_told_or_changes_nothing(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, **{**AUTHORS, "image": IMAGE[:, :1, :1]})
    whole, spec = path.read_bytes(), replace(SPEC, image_shape=(1, 1, 1))
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with suppress(BadInput):
            (episode,) = read(path, spec=spec)
            assert np.array_equal(episode.reward, STEP) and (episode.image.ravel() == STEP).all()


def test_places_without_episodes_are_told(tmp_path):
    for path, words in ((tmp_path, "no .npz and no .hdf5"), (tmp_path / "x", "No such file")):
        with pytest.raises(BadInput, match=words):
            read(path)


# Minari


def dataset(path, *, actions=CHOICES, attrs=None, **change):
    """Two episodes, the second cut by a limit, as Minari writes them."""
    columns = {
        "observations": IMAGE[..., 0].repeat(2, axis=1).repeat(2, axis=2),
        "actions": actions,
        "rewards": STEP[1:].astype(np.float64),
        "terminations": STEP[1:] == 5,
        "truncations": STEP[1:] < 0,
        **change,
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(attrs or {})
        for number in (0, 10):
            group = file.create_group(f"episode_{number}")
            for name, column in columns.items():
                group[name] = column[::-1] if number and name == "rewards" else column
    return path


def test_minari_is_moved_to_the_alignment_of_the_chart(tmp_path):
    first, second = read(dataset(tmp_path / "main_data.hdf5"))
    assert np.array_equal(first.image, IMAGE) and first.reward.tolist() == STEP.tolist()
    assert first.prev_action[1:].argmax(1).tolist() == CHOICES.tolist()
    assert not first.prev_action[0].any() and first.is_terminal.tolist() == [False] * 5 + [True]
    assert second.reward.tolist() == [0, 5, 4, 3, 2, 1] and second.episode == 1


def test_minari_actions_are_brought_to_those_of_the_agent(tmp_path):
    space = {"type": "Discrete", "n": 3, "start": 4}
    path = dataset(
        tmp_path / "a.h5", actions=CHOICES + 4, attrs={"action_space": json.dumps(space)}
    )
    assert read(path)[0].prev_action[1:].argmax(1).tolist() == CHOICES.tolist()
    box = {"type": "Box", "low": [0, -2], "high": [4, 2]}
    (tmp_path / "metadata.json").write_text(json.dumps({"action_space": json.dumps(box)}))
    path = dataset(tmp_path / "b.h5", actions=np.tile([[3.0, -2.0]], (5, 1)))
    assert read(path, spec=BOX)[0].prev_action[1:].tolist() == [[0.5, -1.0]] * 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observations": IMAGE[:5]}, r"episode_0: wanted T rewards.*got 5, 5, 5, 5 and 5"),
        ({"observations": IMAGE.astype(float)}, "episode_0/observations: wanted images of bytes"),
        ({"terminations": STEP[1:] == 2}, "true before the last row"),
        ({"actions": CHOICES + 1}, "episode_0/actions: wanted choices from 0 to 2"),
        ({"actions": np.array([b"up"] * 5)}, "episode_0/actions: wanted an array of numbers"),
        ({"truncations": np.False_}, "episode_0/truncations: wanted an array of true and false"),
        ({"observations": np.zeros((6, 0, 0, 3), np.uint8)}, "wanted images of bytes"),
        ({"attrs": {"action_space": '{"type": "Box"}'}, "spec": BOX}, "/actions: .*do not fit"),
    ],
)
def test_a_malformed_minari_file_is_told_with_group_and_key(tmp_path, change, words):
    spec = change.get("spec", SPEC)
    path = dataset(tmp_path / "main_data.hdf5", **{k: v for k, v in change.items() if k != "spec"})
    with pytest.raises(BadInput, match=words) as told:
        read(path, spec=spec)
    assert str(path) in str(told.value)


def test_other_hdf5_files_and_a_missing_h5py_are_told(tmp_path, monkeypatch):
    path = dataset(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["episode_0"]["rewards"]
    with pytest.raises(BadInput, match="episode_0: wanted the key 'rewards'"):
        read(path)
    with h5py.File(path, "w") as file:
        file["episode_0"] = 1
    with pytest.raises(BadInput, match="episode_0 cannot be read"):
        read(path)
    with h5py.File(path, "w") as file:
        file["weights"] = 1
    with pytest.raises(BadInput, match=r"wanted groups episode_0.*there are weights"):
        read(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(BadInput, match=r"a\.hdf5"):
        read(path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BadInput, match=r"dreamerv2-service\[minari\]"):
        read(path)
