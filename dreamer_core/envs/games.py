"""The 55 Atari games on which DreamerV2 is measured."""

from __future__ import annotations

from dreamer_core.config import EnvConfig

# fmt: off
RANDOM_RETURNS = {
    "alien": 229, "amidar": 6, "assault": 222, "asterix": 210, "asteroids": 719,
    "atlantis": 12_850, "bank_heist": 14, "battle_zone": 2_360, "beam_rider": 364,
    "berzerk": 124, "bowling": 23, "boxing": 0, "breakout": 2, "centipede": 2_091,
    "chopper_command": 811, "crazy_climber": 10_780, "demon_attack": 152, "double_dunk": -19,
    "enduro": 0, "fishing_derby": -92, "freeway": 0, "frostbite": 65, "gopher": 258,
    "gravitar": 173, "hero": 1_027, "ice_hockey": -11, "jamesbond": 7, "kangaroo": 52,
    "krull": 1_598, "kung_fu_master": 258, "montezuma_revenge": 0, "ms_pacman": 307,
    "name_this_game": 2_292, "phoenix": 761, "pitfall": -229, "pong": -21, "private_eye": 25,
    "qbert": 164, "riverraid": 1_338, "road_runner": 12, "robotank": 2, "seaquest": 68,
    "skiing": -17_098, "solaris": 1_236, "space_invaders": 148, "star_gunner": 664,
    "tennis": -24, "time_pilot": 3_568, "tutankham": 11, "up_n_down": 533, "venture": 0,
    "video_pinball": 16_257, "wizard_of_wor": 564, "yars_revenge": 3_093, "zaxxon": 32,
}
# fmt: on
"""Mean return of random play, by the names of the Arcade Learning Environment; source: DreamerV2,
Table K.1."""

PAPER_GAMES = tuple(RANDOM_RETURNS)
"""Names of the games."""


def random_return(env: EnvConfig) -> float | None:
    """Mean return of random play of an environment; None where the paper does not tell it."""
    return RANDOM_RETURNS.get(env.task) if env.suite == "atari" else None
