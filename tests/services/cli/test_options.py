"""What options become."""

import pytest

from services.cli.options import LocalCommand, with_preset

USAGE = "dreamer local PRESET"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ()),
        (["--env.log-info", "success"], ("success",)),
        (["--env.log-info", "success,distance"], ("success", "distance")),
        (["--env.log-info", "success", "episode/r", "--seed", "3"], ("success", "episode/r")),
        (["--env.log-info=success,"], ("success",)),
        (["--env.log-info"], ()),
    ],
)
def test_several_names_have_commas_or_spaces_between_them(words, names):
    command = with_preset(LocalCommand, ["gymnasium_tiny", *words], USAGE)
    assert command.config.env.log_info == names


def test_an_option_that_may_be_none_takes_a_name():
    words = ["gymnasium_tiny", "--env.image-key", "sensors/camera"]
    assert with_preset(LocalCommand, words, USAGE).config.env.image_key == "sensors/camera"
    assert with_preset(LocalCommand, words[:1], USAGE).config.env.image_key is None
