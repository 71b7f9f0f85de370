"""`dreamer presets`: all of them, or each value of one with its source."""

import pytest

from dreamer_core.presets import PRESETS, changes, leaves, preset
from tests.commands import plain


def test_presets_lists_each_with_what_it_is(dreamer):
    code, stdout, _ = dreamer("presets")
    assert code == 0
    for name, entry in PRESETS.items():
        assert name in stdout and entry.summary in plain(stdout)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_printed_with_each_value_its_source_and_what_it_changes(dreamer, name):
    code, stdout, _ = dreamer("presets", name)
    assert code == 0
    rows = {line.split()[0]: plain(line) for line in stdout.splitlines()[1:] if line.split()}
    atari = dict(leaves(preset("atari")))
    for path, value in leaves(preset(name)):
        if path == "preset":
            continue
        change = changes(name).get(path)
        before = f" {atari[path]}" if change else ""
        source = f" {change.source}" if change else ""
        assert rows[path].startswith(f"{path} {value}{before}{source}"), rows[path]
        assert len(rows[path]) > len(f"{path} {value}{before}")
