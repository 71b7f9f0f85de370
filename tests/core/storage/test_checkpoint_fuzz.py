"""Random damage to two checkpoints: what is loaded is what was saved, or there is one refusal."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_core.storage.checkpoint import CheckpointCorrupt, load, newest
from dreamer_core.storage.store import LocalStore
from tests.core.storage.saved_steps import blob_of, is_step, manifest_of, save_steps

DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["truncate", "flip", "delete", "overwrite", "append"]),
        st.integers(0, 4),  # which file
        st.floats(0, 1, exclude_max=True),  # where in it
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What each file of steps 1 and 2 holds; LATEST, blobs and manifests."""
    store = LocalStore(tmp_path_factory.mktemp("saved"))
    save_steps(store, 1, 2)
    names = ["LATEST", manifest_of(1), manifest_of(2), blob_of(store, 1), blob_of(store, 2)]
    return {name: store.read(name) for name in names}


def damaged(content, kind, where, data):
    at = int(where * len(content))
    match kind:
        case "truncate":
            return content[:at]
        case "flip":
            bit = bytes([content[at] ^ (1 << data[0] % 8)]) if content else b""
            return content[:at] + bit + content[at + 1 :]
        case "overwrite":
            return content[:at] + data + content[at + len(data) :]
        case _:
            return content + data


def damage(files, changes):
    files = dict(files)
    names = sorted(files)
    for kind, which, where, data in changes:
        name = names[which]
        if kind == "delete":
            files.pop(name, None)
        elif name in files:
            files[name] = damaged(files[name], kind, where, data)
    return files


def is_same_json(first, second):
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


def whole_steps(files, saved):
    """The steps of which manifest and blob are as they were saved, as text may differ."""
    blobs = sorted(name for name in saved if "tensors" in name)
    return {
        step
        for step, blob in enumerate(blobs, start=1)
        if files.get(blob) == saved[blob]
        and is_same_json(files.get(manifest_of(step), b""), saved[manifest_of(step)])
    }


def write(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return LocalStore(directory)


@settings(deadline=None, max_examples=400)
@given(changes=DAMAGES)
def test_whatever_is_damaged_a_whole_step_is_loaded_or_none_and_then_by_one_refusal(saved, changes):
    files = damage(saved, changes)
    whole = whole_steps(files, saved)
    with tempfile.TemporaryDirectory() as directory:
        store = write(Path(directory), files)
        if whole:
            found = load(store)
            assert found is not None and found.step in whole and is_step(found, found.step)
            assert found.step == max(whole) or files.get("LATEST") != saved["LATEST"]
        elif {"LATEST", manifest_of(1), manifest_of(2)} & set(files):
            with pytest.raises(CheckpointCorrupt):
                load(store)
        else:
            assert load(store) is None


@settings(deadline=None, max_examples=100)
@given(changes=DAMAGES)
def test_saving_goes_on_over_any_damage(saved, changes):
    with tempfile.TemporaryDirectory() as directory:
        store = write(Path(directory), damage(saved, changes))
        save_steps(store, 3)
        assert is_step(load(store), 3) and newest(store).step == 3
