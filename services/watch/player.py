"""The process behind `dreamer watch` that plays and dreams, as fast as it is looked at.

It is started with PlayerOptions as JSON and speaks through pipes. On stdin each line is an `Order`,
and its end ends the player. On stdout each line is a JSON message of one `kind`:

    waiting    why there is nothing to play with yet
    frame      one policy step, see `_frame`
    failed     why the player ends, and whether that was bad input

A bug ends it with exit code 70, and its trace on stderr.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_core.agent.threads import num_threads
from dreamer_core.envs.base import close_or_warn
from dreamer_core.envs.suites import make_env
from dreamer_core.errors import BUG_EXIT, BadInput, DreamerError
from dreamer_core.run.dream import Moment, watch_episode
from dreamer_core.run.restored import NewestAgent
from dreamer_core.storage.run_directory import read_config
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array
from services.logs import log_to_stderr
from services.watch.orders import Orders, PlayerOptions
from services.watch.pace import Pace
from services.watch.png import png_of

logger = logging.getLogger(__name__)

_RENEW_INTERVAL_S = 5.0
_WAITING_INTERVAL_S = 2.0
_END_PAUSE_S = 1.0  # so that the end of an episode is seen
_FEWEST_PICTURES = 200  # that tell how much pictures vary


class Player:
    """Plays episode after episode with the newest weights of a run.

    Args:
        options: what to play and how.
        orders: when to play.
        send: takes messages.

    Raises:
        BadInput: the run or its environment cannot be used.
        EnvironmentCrashed: the environment failed while it was made.
        StorageFailed: the place of the checkpoints cannot be reached.
    """

    def __init__(
        self, options: PlayerOptions, orders: Orders, send: Callable[[dict[str, Any]], None]
    ) -> None:
        self._options, self._orders, self._send = options, orders, send
        config = read_config(Path(options.run_dir))
        self._env = make_env(config.env, options.seed)
        self._newest = NewestAgent(Path(options.run_dir), config, self._env.spec)
        self._pace = Pace(orders, options.real_speed)
        self._still = StillPicture()
        self._problem: str | None = None
        self._next_renewal_s = time.monotonic()
        self._looked_for: int | None = None  # the checkpoint chosen at the last renewal

    def run(self) -> None:
        """Plays until the orders end; an episode anew where who plays it is chosen anew.

        Raises:
            EOFError: they did.
            EnvironmentCrashed: the environment failed.
        """
        for episode in itertools.count():
            self._await_weights()
            choice = self._orders.choice
            for moment in watch_episode(
                self._env,
                self._newest.policy,
                self._newest.agent,
                mode=choice.mode,
                words=(self._options.seed, episode),
            ):
                self._still.add(moment.image)
                self._send(self._message(episode, choice.mode, moment))
                self._pace.wait(_END_PAUSE_S if moment.is_last else 0.0)
                self._renew()
                now = self._orders.choice
                if (now.mode, now.checkpoint) != (choice.mode, choice.checkpoint):
                    break

    def close(self) -> None:
        """Closes the environment."""
        close_or_warn(self._env)

    def _await_weights(self) -> None:
        while self._newest.wall_time_s is None:
            self._orders.wait(time.monotonic())
            self._renew()
            if self._newest.wall_time_s is None:
                self._send({"kind": "waiting", "reason": self._problem or "No checkpoint yet."})
                self._orders.wait(time.monotonic() + _WAITING_INTERVAL_S)

    def _renew(self) -> None:
        """Looks for other weights now and then; without them the game goes on with the old."""
        wanted = self._orders.choice.checkpoint
        if time.monotonic() < self._next_renewal_s and wanted == self._looked_for:
            return
        self._looked_for = wanted
        try:
            self._newest.renew(wanted)
            self._problem = None
        except DreamerError as error:
            self._problem = str(error)
        is_waiting = self._newest.wall_time_s is None
        interval_s = _WAITING_INTERVAL_S if is_waiting else _RENEW_INTERVAL_S
        self._next_renewal_s = time.monotonic() + interval_s

    def _message(self, episode: int, mode: str, moment: Moment) -> dict[str, Any]:
        model = self._newest.agent.world_model
        return _frame(moment, self._env.spec, model.gamma) | {
            "episode": episode,
            "mode": mode,
            "reward_unit": "tanh(reward)" if model.config.reward_transform == "tanh" else "reward",
            "gradient_step": self._newest.agent.gradient_step,
            "checkpoints": self._newest.steps,
            "saved_s": self._newest.wall_time_s,
            "wanted_speed": self._pace.wanted_speed,
            "step_s": round(self._pace.step_s, 5),
            "step_cpu_s": round(self._pace.step_cpu_s, 5),
            "still_error": self._still.error if self._still.count >= _FEWEST_PICTURES else None,
            "problem": self._problem,
        }


class StillPicture:
    """What it would cost a model to show always the same picture: the mean of those seen."""

    def __init__(self) -> None:
        self.count = 0
        """Pictures seen."""
        self._sum: Any = 0.0  # [64, 64, channels]
        self._squares = 0.0

    def add(self, image: UInt8Array) -> None:
        """Takes one more image that the model sees."""
        pixels = image / 255.0
        self.count += 1
        self._sum = self._sum + pixels
        self._squares += float((pixels**2).mean())

    @property
    def error(self) -> float:
        """Mean squared error a pixel, in the unit of the model's image error."""
        mean = self._sum / self.count
        return max(0.0, self._squares / self.count - float((mean**2).mean()))


def _frame(moment: Moment, spec: EnvSpec, gamma: float) -> dict[str, Any]:
    """Returns a moment as JSON; row 0 of what is predicted is the present, the others imagined."""
    dream = moment.dream
    lives_on = np.cumprod(np.minimum(dream.discount / gamma, 1)) if gamma > 0 else dream.discount
    return {
        "kind": "frame",
        "t": moment.t,
        "is_last": moment.is_last,
        "episode_return": moment.episode_return,
        "reward": moment.reward,
        "transformed_reward": moment.transformed_reward,
        "action_names": _names(spec),
        "is_discrete": spec.is_discrete,
        "action": _action(moment.action, spec),
        "preference": _rounded(dream.preference),
        "value": _rounded(dream.value),
        "predicted_reward": _rounded(dream.reward),
        "lives_on": _rounded(lives_on),
        "imagined_action": [_action(action, spec) for action in dream.action],
        "screen": _png(moment.screen),
        "tiles": _png(_seen(moment)),
        "imagined": _png(_side_by_side(moment.dream.image[1:])),
    }


def _seen(moment: Moment) -> UInt8Array:
    """Returns input, reconstruction and their difference side by side, [64, 3 * 64, channels].

    The difference is (reconstruction - input + 1) / 2: grey where they agree.
    """
    seen, reconstruction = moment.image.astype(np.float32) / 255, moment.dream.image[0]
    return _side_by_side([seen, reconstruction, (reconstruction - seen + 1) / 2])


def _side_by_side(images: Iterable[Any]) -> UInt8Array:
    """Returns images in [0, 1] as one of bytes."""
    return (np.concatenate(list(images), axis=1) * 255).round().astype(np.uint8)


def _png(image: UInt8Array) -> str:
    """Returns an image [H, W, 1 or 3] as a PNG in base64."""
    return base64.b64encode(png_of(image)).decode()


def _names(spec: EnvSpec) -> tuple[str, ...]:
    """Returns a name for each entry of an action; of several choices `choice: class`."""
    if spec.action_classes is None:
        return spec.action_names or tuple(f"action {index}" for index in range(spec.action_size))
    choices = enumerate(spec.action_classes)
    return tuple(f"{choice}: {index}" for choice, count in choices for index in range(count))


def _action(action: FloatArray, spec: EnvSpec) -> int | list[int] | list[float]:
    """Returns the index of a discrete action, those of several choices, the values of any other."""
    if spec.action_classes is not None:
        return [int(index) for index in action.nonzero()[0]]
    return int(action.argmax()) if spec.is_discrete else _rounded(action)


def _rounded(values: Any) -> list[float]:
    """Returns numbers as JSON holds them, with what a picture of them can show."""
    return [round(float(value), 5) for value in np.nan_to_num(values)]


def _let_training_go_first() -> None:
    """Leaves the processor to whatever else wants it, where the system allows that.

    Linux may share it between sessions first (autogroup) and between their processes only then, so
    this process's session, which it has for itself, is put last as well.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def main() -> None:
    """Plays until stdin ends."""
    log_to_stderr("player")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints is no message

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message, allow_nan=False).encode() + b"\n")
        out.flush()

    options = PlayerOptions(**json.loads(sys.argv[1]))
    if options.gives_way:
        _let_training_go_first()
    try:
        with num_threads(1):
            player = Player(options, Orders(0), send)
            with closing(player):
                player.run()
    except (EOFError, BrokenPipeError):
        pass  # nobody is left to play for
    except DreamerError as error:
        is_bad_input = isinstance(error, BadInput)
        send({"kind": "failed", "reason": str(error), "is_bad_input": is_bad_input})
    except Exception:
        logger.exception("Ended by a bug in this program")
        sys.exit(BUG_EXIT)


if __name__ == "__main__":
    main()
