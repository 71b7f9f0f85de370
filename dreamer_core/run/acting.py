"""A trained agent outside its run: raw observations in, native actions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import gymnasium

from dreamer_core.agent.policy import ActionMode, PolicyNetwork, step_generator
from dreamer_core.agent.threads import num_threads
from dreamer_core.config import Config
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.envs.native import Terms, terms_of
from dreamer_core.errors import BadInput
from dreamer_core.run.restored import weights_in
from dreamer_core.seeds import Stream
from dreamer_core.storage.identity import saved_config, saved_spec
from dreamer_core.storage.named import load_named


class Policy:
    """Acts with trained weights and remembers the episode; on the CPU.

    Episode n of a policy of seed s takes the actions that `dreamer eval --seed s` takes in its
    episode n, if the observations are the same. Take one action for `config.env.action_repeat`
    frames, as in training.

    Args:
        network: with its weights loaded.
        config: of the run that trained it.
        terms: of the environment.
        mode: `greedy` takes the actor's mode, `sample` draws; the latent is sampled in both.
        seed: of the samples.
    """

    def __init__(
        self, network: PolicyNetwork, config: Config, terms: Terms, mode: ActionMode, seed: int
    ) -> None:
        self.config = config
        """Of the run that trained it."""
        self.spec = network.spec
        """Sizes of the environment."""
        self._network, self._terms = network, terms
        self._mode: ActionMode = mode
        self._seed, self._episode, self._step = seed, 0, 0
        self._state = network.initial()

    @classmethod
    def load(
        cls,
        trained: str | Path,
        *,
        step: int | None = None,
        env: gymnasium.Env[Any, Any] | None = None,
        mode: ActionMode = "greedy",
        seed: int = 0,
    ) -> Policy:
        """Loads the policy of a checkpoint.

        Args:
            trained: a run directory; a directory or URL of checkpoints; a checkpoint in one
                (`.../000000012000`); or a file of a checkpoint.
            step: gradient steps of the checkpoint; None for the newest that is whole.
            env: a Gymnasium environment whose spaces tell how observations and actions look. None:
                that of the run, which is made once, asked and closed again. Atari needs none.
            mode: see the class.
            seed: see the class.

        Raises:
            BadInput: there is no such checkpoint or mode, or the environment has other sizes.
            CheckpointCorrupt: no checkpoint can be read.
            StorageFailed: the place of the checkpoints cannot be read.
        """
        if mode not in get_args(ActionMode):
            raise BadInput(f"mode={mode!r} must be one of {', '.join(get_args(ActionMode))}")
        found = load_named(trained, step)
        config = saved_config(found.facts, found.location)
        spec = saved_spec(found.facts, found.location)
        network = PolicyNetwork(config, spec)
        network.load(weights_in(found, network))
        return cls(network, config, terms_of(config.env, spec, env), mode, seed)

    def reset(self) -> None:
        """Forgets what was observed: the next observation is the first of an episode."""
        self._episode += self._step > 0
        self._step = 0
        self._state = self._network.initial()

    def act(self, observation: Any) -> Any:
        """Returns the action to take, as the environment takes it.

        Args:
            observation: as the environment returned it from `reset` or `step`. Of Atari a uint8
                image in grayscale or RGB; the action is then an index of ALE's 18.

        Raises:
            BadInput: it is unlike what the environment declares.
        """
        try:
            seen = self._terms.read(observation)
        except EnvironmentCrashed as error:
            raise BadInput(str(error)) from error
        words = (Stream.EVALUATE.word, self._seed, self._episode, self._step)
        with num_threads(1):
            action, self._state = self._network.act(
                self._state, seen.image, step_generator(*words), self._mode, vector=seen.vector
            )
        self._step += 1
        return self._terms.native(action)
