"""A real third-party environment for learning tests: MiniGrid's empty room, seen from above.

Task name: `tests.learning.rooms:make_env`, from the root of the repository.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import minigrid  # noqa: F401 (registers its environments)
from gymnasium import spaces
from minigrid.core.actions import Actions
from minigrid.wrappers import ImgObsWrapper, RGBImgObsWrapper

CELL = 10
"""Pixels of a cell's side: images are [60, 60, 3]."""
STEPS = (Actions.left, Actions.right, Actions.forward)
"""Turn left, turn right, go: those of MiniGrid's seven actions that do anything in this room."""


class Room(gymnasium.ActionWrapper[Any, Any, Any]):
    """MiniGrid-Empty-Random-6x6 with its three useful actions.

    The agent begins anywhere and is worth 1 - 0.9 * steps / 144 at the green goal, 0 if it is not
    there after 144 steps.
    """

    def __init__(self) -> None:
        room = gymnasium.make("MiniGrid-Empty-Random-6x6-v0", render_mode="rgb_array")
        super().__init__(ImgObsWrapper(RGBImgObsWrapper(room, tile_size=CELL)))
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(STEPS))

    def action(self, action: Any) -> Any:
        return STEPS[int(action)]


def make_env() -> Room:
    """Returns a new room."""
    return Room()


def best_action(env: Room) -> int:
    """Goes where it looks as long as that leads nearer to the goal below right, else turns."""
    room: Any = env.unwrapped
    ways = {0: room.width - 2 - room.agent_pos[0], 1: room.height - 2 - room.agent_pos[1]}
    if ways.get(room.agent_dir, 0) > 0:
        return 2
    wanted = next(direction for direction, way in ways.items() if way > 0)
    return 0 if (room.agent_dir - wanted) % 4 == 1 else 1
