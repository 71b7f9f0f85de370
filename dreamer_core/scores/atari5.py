"""Atari-5: what five games say of the median over 57 (Aitchison et al. 2023, ICML).

    log10(1 + median) = Σ_g w_g · log10(1 + max(0, x_g)),    x_g and median in percent of a gamer

The weights are those of the first author's code (github.com/maitchison/PPO, tools/plot_util.py,
`Atari_5`), to four digits: a regression without an intercept over some sixty published agents that
reach a median above 40%, with a relative error of 10%. So it is biased early in training: an
agent plays one of the five at random then, whose weight pulls the whole estimate down. Of the
columns of Table K.1, which play by another protocol than most of those agents, it makes 2.03
(DreamerV2), 0.96 (IQN) and 1.17 (Rainbow) where the medians over 55 games are 2.15, 1.29 and 1.47.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

WEIGHTS = {
    "battle_zone": 0.3820,
    "double_dunk": 0.0679,
    "name_this_game": 0.3108,
    "phoenix": 0.1241,
    "qbert": 0.0805,
}
"""By game; they do not sum to 1."""
_BASELINES = {
    "battle_zone": (2360.0, 37187.5),
    "double_dunk": (-18.6, -16.4),
    "name_this_game": (2292.3, 8049.0),
    "phoenix": (761.4, 7242.6),
    "qbert": (163.9, 13455.0),
}
"""Random play and gamer as the regression knew them: Table K.1 rounds, which for Double Dunk makes
3 points of 2.2. Source: dqn_zoo's atari_data.py."""


def estimated_median(scores: Mapping[str, float]) -> float | None:
    """Returns the gamer-normalised median over 57 games that five of them let expect, 1 = a gamer.

    Args:
        scores: by game; others than the five are of no meaning.

    Returns:
        None unless all five are there.
    """
    if not set(WEIGHTS) <= set(scores):
        return None
    log_median = 0.0
    for game, weight in WEIGHTS.items():
        random, gamer = _BASELINES[game]
        percent = 100 * (scores[game] - random) / (gamer - random)
        log_median += weight * math.log10(1 + max(0.0, percent))
    return (10**log_median - 1) / 100
