"""Makes golden_atari_frames.npz: the Atari protocol played slowly, without dreamer_core.

Run from the repository root: python -m tests.core.envs.make_golden_atari_frames
Every screen is read, and images are averaged in float64 with exact fractional weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ale_py
import numpy as np
import numpy.typing as npt
from ale_py import roms

GOLDEN = Path(__file__).with_name("golden_atari_frames.npz")
GAMES = ("pong", "breakout", "boxing")
SEED = 3
POLICY_STEPS = 120
KEEP_EVERY = 10
"""Policy steps between two images that are stored."""
MAX_NOOPS = 30
STICKY = 0.25
_ale_py: Any = ale_py  # its type stubs are partial


class SlowStep(NamedTuple):
    """One policy step, or a reset."""

    screen: npt.NDArray[np.uint8]
    """[H, W], the maximum of the last two screens."""
    last_screen: npt.NDArray[np.uint8]
    """[H, W], the last screen alone."""
    reward: int
    is_game_over: bool
    lives: int
    episode_frames: int
    """Frames since ALE's own reset, no-ops included."""

    @property
    def image(self) -> npt.NDArray[np.float64]:
        """[64, 64], not rounded."""
        return area_average(self.screen)


def golden_actions() -> list[int]:
    """Returns the fixed sequence of actions, which visits all 18."""
    return [(5 * t + t * t // 7) % 18 for t in range(POLICY_STEPS)]


@cache
def averaging_weights(size: int) -> npt.NDArray[np.float64]:
    """Returns [64, size]: the share of each input pixel in each of 64 output pixels."""
    width = size / 64
    start = np.arange(64)[:, None] * width
    pixel = np.arange(size)[None, :]
    overlap = np.minimum(start + width, pixel + 1) - np.maximum(start, pixel)
    return np.clip(overlap, 0, None) / width


def area_average(screen: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Returns a screen [H, W] averaged down to [64, 64], not rounded."""
    height, width = screen.shape
    return averaging_weights(height) @ screen.astype(np.float64) @ averaging_weights(width).T


def slow_ale(game: str, seed: int) -> Any:
    """Returns a seeded emulator without sticky actions."""
    _ale_py.ALEInterface.setLoggerMode(_ale_py.LoggerMode.Error)
    ale = _ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    return ale


def play_slowly(
    game: str,
    actions: Iterable[int],
    *,
    seed: int = SEED,
    sticky: float = STICKY,
    max_noops: int = MAX_NOOPS,
) -> list[SlowStep]:
    """Plays one episode: the reset and one entry per action, up to the end of the game.

    One uniform number is drawn for each of the four frames of a policy step, played or not; where
    it is below `sticky`, the frame repeats what the frame before it did.
    """
    ale = slow_ale(game, seed)
    sticky_rng, held = np.random.default_rng([seed, 1]), 0
    ale.reset_game()
    for _ in range(int(np.random.default_rng(seed).integers(max_noops + 1))):
        ale.act(0)

    def entry(screens: list[npt.NDArray[np.uint8]], reward: int) -> SlowStep:
        return SlowStep(
            screen=np.stack(screens[-2:]).max(0),
            last_screen=screens[-1],
            reward=reward,
            is_game_over=bool(ale.game_over()),
            lives=int(ale.lives()),
            episode_frames=int(ale.getEpisodeFrameNumber()),
        )

    steps = [entry([ale.getScreenGrayscale()], 0)]
    for action in actions:
        reward, screens = 0, list[npt.NDArray[np.uint8]]()
        for draw in sticky_rng.random(4):
            held = held if draw < sticky else action
            reward += int(ale.act(held))
            screens.append(ale.getScreenGrayscale())
            if ale.game_over():
                screens = screens[-1:] if len(screens) < 4 else screens
                break
        steps.append(entry(screens, reward))
        if steps[-1].is_game_over:
            break
    return steps


def main() -> None:
    """Writes images [K, 64, 64] and rewards [121] of each game."""
    arrays: dict[str, Any] = {}
    for game in GAMES:
        steps = play_slowly(game, golden_actions())
        images = np.stack([step.image for step in steps[::KEEP_EVERY]])
        arrays[f"{game}_image"] = np.rint(images).astype(np.uint8)
        arrays[f"{game}_reward"] = np.array([step.reward for step in steps], np.float32)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
