"""Atari games under the protocol of DreamerV2, sec. 3 (Machado et al. 2018)."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

import ale_py
import numpy as np
from ale_py import roms

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import (
    IMAGE_SIZE,
    EnvStep,
    UnknownTask,
    UnsupportedEnvironment,
    next_episode_step,
    one_hot_index,
    resize_image,
)
from dreamer_core.envs.frames import ATARI_FRAMES_PER_SECOND
from dreamer_core.seeds import Stream
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array

_ale_py: Any = ale_py  # its type stubs are partial

ACTION_COUNT = 18
"""Every position of the joystick, with and without the button."""
_NOOP = 0


class AtariEnvironment:
    """One game, driven frame by frame.

    Sticky actions are drawn per frame, here and not in the emulator, whose saved state lacks the
    action that is being repeated. All 18 actions are offered in every game; one that a game
    does not know is a no-op there (half of them in Skiing). Episodes end on game over or at the
    time limit, never on a lost life. The image is the pixel-wise maximum of the last two screens
    of a repeat, averaged down; a repeat that game over cuts short shows its last screen alone.
    The time limit is counted from after the no-ops.
    """

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Loads the game.

        Args:
            config: task and protocol.
            seed: 0 or more; of the sticky actions and, separately, of the no-ops.

        Raises:
            UnknownTask: there is no such game.
            UnsupportedEnvironment: the game cannot be played alone.
        """
        self._config = config
        self._ale = _load_ale(config, seed)
        self._noop_rng = np.random.default_rng(seed)
        self._sticky_rng = np.random.default_rng([seed, Stream.STICKY_ACTIONS.word])
        self._frame_action = _NOOP
        self._actions = [_ale_py.Action(index) for index in range(ACTION_COUNT)]
        channels = 1 if config.is_grayscale else 3
        height, width = self._ale.getScreenDims()
        screen_shape = (height, width) if config.is_grayscale else (height, width, channels)
        self._screen: UInt8Array = np.zeros(screen_shape, np.uint8)
        self._previous_screen = np.zeros_like(self._screen)
        self._episode_steps: int | None = None
        self._spec = EnvSpec(
            image_shape=(IMAGE_SIZE, IMAGE_SIZE, channels),
            action_size=ACTION_COUNT,
            is_discrete=True,
            action_names=tuple(action.name for action in self._actions),
            frames_per_policy_step=config.action_repeat,
        )

    @property
    def spec(self) -> EnvSpec:
        """Sizes; constant over the environment's life."""
        return self._spec

    @property
    def own_limit_steps(self) -> None:
        """None: a game says nothing of the kind."""
        return

    @property
    def spaces(self) -> tuple[str, str]:
        """Observations and actions in the environment's own words."""
        height, width = self._ale.getScreenDims()
        return f"a screen of {width} x {height} pixels", f"{ACTION_COUNT} actions of the console"

    def reset(self) -> EnvStep:
        """Starts a game and lets 0 to `max_noops` frames pass, uniformly drawn."""
        self._ale.reset_game()
        self._frame_action = _NOOP
        for _ in range(self._noop_rng.integers(self._config.max_noops + 1)):
            self._ale.act(self._actions[_NOOP])
            if self._is_game_over():
                self._ale.reset_game()
        self._episode_steps = 0
        self._grab(self._screen)
        image = resize_image(self._screen)
        return EnvStep(image=image, reward=0.0, is_last=False, is_terminal=False)

    def step(self, action: FloatArray) -> EnvStep:
        """Plays one action for `action_repeat` frames, or fewer if the game ends.

        Args:
            action: [18], one-hot.

        Raises:
            ValueError: the action is not one-hot, or no episode is running.
        """
        chosen = one_hot_index(action, ACTION_COUNT)
        draws = self._sticky_rng.random(self._config.action_repeat)
        is_sticky = (draws < self._config.sticky_action_probability).tolist()
        episode_steps = next_episode_step(self._episode_steps)
        last_frame = self._config.action_repeat - 1
        reward, is_terminal, has_previous_screen = 0, False, False
        for frame in range(self._config.action_repeat):
            if not is_sticky[frame]:
                self._frame_action = chosen
            reward += self._ale.act(self._actions[self._frame_action])
            is_terminal = self._is_game_over()
            if is_terminal:
                break
            if frame == last_frame - 1:
                self._grab(self._previous_screen)
                has_previous_screen = True
        self._grab(self._screen)
        if has_previous_screen:
            np.maximum(self._screen, self._previous_screen, out=self._screen)
        is_last = is_terminal or episode_steps == self._config.time_limit_steps
        self._episode_steps = None if is_last else episode_steps
        image = resize_image(self._screen)
        return EnvStep(image=image, reward=float(reward), is_last=is_last, is_terminal=is_terminal)

    def screen(self) -> UInt8Array:
        """Returns the console's newest screen in colour, [210, 160, 3] in most games."""
        return self._ale.getScreenRGB()

    @property
    def frames_per_second(self) -> float:
        """Those of the console."""
        return ATARI_FRAMES_PER_SECOND

    @property
    def render_s(self) -> float:
        """0: the emulator draws every frame as it goes."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """Returns the emulator's state with its random numbers, and what is kept beside it."""
        return {
            "task": self._config.task,
            "emulator": np.frombuffer(
                self._ale.cloneState(include_rng=True).__getstate__(), np.uint8
            ),
            "noop_rng": json.dumps(self._noop_rng.bit_generator.state),
            "sticky_rng": json.dumps(self._sticky_rng.bit_generator.state),
            "frame_action": self._frame_action,
            "episode_steps": self._episode_steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken: the same actions give the same images and rewards.

        Raises:
            ValueError: the state is of another game.
        """
        if state["task"] != self._config.task:
            raise ValueError(f"Wanted a state of {self._config.task}, got one of {state['task']}")
        emulator = _ale_py.ALEState.__new__(_ale_py.ALEState)
        emulator.__setstate__(np.asarray(state["emulator"]).tobytes())
        self._ale.restoreState(emulator)
        self._noop_rng.bit_generator.state = json.loads(state["noop_rng"])
        self._sticky_rng.bit_generator.state = json.loads(state["sticky_rng"])
        self._frame_action = state["frame_action"]
        self._episode_steps = state["episode_steps"]

    def close(self) -> None:
        """Ends the episode; the emulator itself goes with this object."""
        self._episode_steps = None

    def _is_game_over(self) -> bool:
        return self._ale.game_over(with_truncation=False)

    def _grab(self, screen: UInt8Array) -> None:
        """Writes the current screen into an array [H, W] or [H, W, 3]."""
        if self._config.is_grayscale:
            self._ale.getScreenGrayscale(screen)
        else:
            self._ale.getScreenRGB(screen)


def is_game(task: str) -> bool:
    """Whether a game has this name, however spelled."""
    return _letters(task) in _games()


def find_rom(task: str) -> str:
    """Returns ALE's name of a game, however spelled: `MsPacman`, `ms_pacman`, `Ms. Pacman`.

    Raises:
        UnknownTask: no game has this name.
    """
    names = _games()
    rom = names.get(_letters(task))
    if rom is None:
        close = difflib.get_close_matches(_letters(task), names, n=3)
        hint = ", ".join(names[name] for name in close) or "none; try pong, breakout or ms_pacman"
        raise UnknownTask(
            f"task={task!r} is not a game of the Arcade Learning Environment; closest: {hint}. "
            f"ale_py.roms.get_all_rom_ids() lists all {len(names)}"
        )
    return rom


def _games() -> dict[str, str]:
    """Letters of each game's name to ALE's name of it."""
    return {_letters(rom): rom for rom in roms.get_all_rom_ids()}


def _letters(name: str) -> str:
    """Returns the letters and digits of a name in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _load_ale(config: EnvConfig, seed: int) -> Any:
    """Returns an emulator with the game loaded and seeded, which does every action it is told."""
    _ale_py.ALEInterface.setLoggerMode(_ale_py.LoggerMode.Error)
    rom = find_rom(config.task)
    path = str(roms.get_rom_path(rom))
    # loadROM would end the whole process on such a game.
    if _ale_py.ALEInterface.isSupportedROM(path) is None:
        raise UnsupportedEnvironment(
            f"task={config.task!r} needs a game for one player, but {rom} is only playable by "
            "two; choose another game"
        )
    ale = _ale_py.ALEInterface()
    ale.setInt("random_seed", seed % 2**31)  # loadROM reads it
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(path)
    return ale
