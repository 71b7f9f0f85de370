"""The 55 Atari games on which DreamerV2 is measured."""

from __future__ import annotations

PAPER_GAMES = (
    *("alien", "amidar", "assault", "asterix", "asteroids", "atlantis", "bank_heist"),
    *("battle_zone", "beam_rider", "berzerk", "bowling", "boxing", "breakout", "centipede"),
    *("chopper_command", "crazy_climber", "demon_attack", "double_dunk", "enduro"),
    *("fishing_derby", "freeway", "frostbite", "gopher", "gravitar", "hero", "ice_hockey"),
    *("jamesbond", "kangaroo", "krull", "kung_fu_master", "montezuma_revenge", "ms_pacman"),
    *("name_this_game", "phoenix", "pitfall", "pong", "private_eye", "qbert", "riverraid"),
    *("road_runner", "robotank", "seaquest", "skiing", "solaris", "space_invaders"),
    *("star_gunner", "tennis", "time_pilot", "tutankham", "up_n_down", "venture"),
    *("video_pinball", "wizard_of_wor", "yars_revenge", "zaxxon"),
)
"""By the names of the Arcade Learning Environment; source: DreamerV2, Table K.1."""
