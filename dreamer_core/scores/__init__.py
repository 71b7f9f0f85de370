"""Scores of Atari runs beside those of the paper: DreamerV2, Table 1 and Table K.1."""
