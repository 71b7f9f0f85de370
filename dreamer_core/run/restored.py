"""The agent of a checkpoint: for the trainer that goes on, and whoever plays beside the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.config import Config
from dreamer_core.config_learner import LearnerConfig
from dreamer_core.errors import BadInput
from dreamer_core.storage import checkpoint
from dreamer_core.storage.checkpoint import Checkpoint
from dreamer_core.storage.identity import (
    environment_facts,
    require_same_run,
    saved_config,
    saved_spec,
)
from dreamer_core.storage.named import load_named
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from dreamer_core.storage.store import Store, open_store
from dreamer_core.types import EnvSpec, WeightsSnapshot


def restore(agent: DreamerAgent, store: Store, config: Config, spec: EnvSpec) -> Checkpoint | None:
    """Gives an agent the state that the newest whole checkpoint of its run holds.

    Args:
        agent: of the run.
        store: of the run's checkpoints.
        config: of the run.
        spec: of its environment.

    Returns:
        The checkpoint; None if there is none yet.

    Raises:
        BadInput: it is of another run or environment, and the agent is as before; or of another
            model; or as in `checkpoint.load`.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
    """
    found = checkpoint.load(store)
    if found is not None:
        require_same_run(found.facts, found.location, config, spec)
        if "optimizers" not in found.tensors:
            raise BadInput(
                f"Wanted to resume from {found.location}, but that holds an agent alone, without "
                "what its run would go on from. Begin a run of its own elsewhere: --from names "
                "this one, --run-dir the place"
            )
        agent.load_state(found.tensors)
    return found


def begin_from(agent: DreamerAgent, trained: str, spec: EnvSpec) -> Checkpoint:
    """Gives a new agent the networks of any run's checkpoint; its optimisers stay as they are.

    Args:
        agent: of a run that has no checkpoint yet.
        trained: as in `load_named`.
        spec: of the agent's environment.

    Raises:
        BadInput: there is no such checkpoint, or its agent has other sizes; the agent is as before.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
    """
    found = load_named(trained)
    wanted, got = environment_facts(spec), found.facts.get("environment")
    if wanted != got:
        raise BadInput(
            f"Wanted to begin from {found.location}, but that was trained for {got} and the "
            f"environment has {wanted}. All layers are taken over, those of images and actions "
            "too: begin from a run whose environment has the same sizes, or without --from"
        )
    state = {**agent.state(), **networks_in(found)}
    misfit = agent.misfit(state)
    if misfit:
        raise BadInput(
            f"Wanted to begin from {found.location}, but its networks have other sizes than this "
            f"run's ({misfit}). Ask for the preset and the sizes of the run that it is of"
        )
    agent.load_state(state)
    return found


def networks_in(found: Checkpoint) -> dict[str, Any]:
    """Returns the state of world model, actor and critic in a checkpoint."""
    return {name: found.tensors.get(name) for name in ("world_model", "behavior")}


def require_beginning(config: Config, spec: EnvSpec, run_dir: Path) -> None:
    """Tries what `config.init_from` names, if the run directory holds no run that would resume.

    Raises:
        BadInput, CheckpointCorrupt, StorageFailed: as in `begin_from`.
    """
    if config.init_from is not None and not RunPaths(run_dir).config.exists():
        begin_from(DreamerAgent(_on_the_cpu(config), spec), config.init_from, spec)


def checkpoint_weights(
    run_dir: Path, config: Config, spec: EnvSpec, *, step: int | None = None
) -> tuple[WeightsSnapshot, int]:
    """Returns the policy's weights in a checkpoint, and the run's policy steps behind them.

    Args:
        run_dir: of the run.
        config: of the run.
        spec: of its environment.
        step: gradient steps of the checkpoint; None for the newest.

    Raises:
        RunDirectoryError: the run has no checkpoint yet.
        BadInput: the step asked for was never saved, or was deleted, or is of another run.
        CheckpointCorrupt: no checkpoint can be read.
        StorageFailed: the place of the checkpoints cannot be read.
    """
    store = open_store(config.checkpoint, RunPaths(run_dir).checkpoints)
    found = checkpoint.load(store, step)
    if found is None:
        raise RunDirectoryError(
            f"Wanted a checkpoint to play with, but {run_dir} has none yet; they are written "
            f"every {config.checkpoint.interval_s:g} s and when a run stops"
        )
    require_same_run(found.facts, found.location, config, spec)
    return weights_in(found, PolicyNetwork(config, spec)), int(found.facts["policy_step"])


def load_agent(trained: str | Path, *, step: int | None = None) -> DreamerAgent:
    """Returns the whole agent of a checkpoint, on the CPU; optimisers begin anew if it has none.

    Args:
        trained: as in `load_named`.
        step: gradient steps of the checkpoint; None for the newest that is whole.

    Raises:
        BadInput: there is no such checkpoint, or it is of another program.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
    """
    return agent_in(load_named(trained, step))


def agent_in(found: Checkpoint) -> DreamerAgent:
    """Returns the agent of a checkpoint as `load_agent` does; raises as it does."""
    config = saved_config(found.facts, found.location)
    agent = DreamerAgent(_on_the_cpu(config), saved_spec(found.facts, found.location))
    new = {"optimizers": agent.state()["optimizers"], "gradient_step": found.step}
    agent.load_state({**new, **found.tensors})
    return agent


def weights_in(found: Checkpoint, policy: PolicyNetwork) -> WeightsSnapshot:
    """Returns what a policy needs of a checkpoint."""
    saved: dict[str, Any] = {**found.tensors["world_model"], **found.tensors["behavior"]}
    wanted = policy.needed(dict(policy.named_parameters()))
    params = {name: saved[name].numpy() for name in wanted if name in saved}
    return WeightsSnapshot(version=found.step, params=params)


class NewestAgent:
    """An agent on the CPU that is renewed in place as the run writes checkpoints.

    Args:
        run_dir: of the run.
        config: of the run.
        spec: of the environment.

    Raises:
        StorageFailed: the place of the checkpoints cannot be reached.
    """

    def __init__(self, run_dir: Path, config: Config, spec: EnvSpec) -> None:
        self._config = _on_the_cpu(config)
        self._spec = spec
        self._store = open_store(config.checkpoint, RunPaths(run_dir).checkpoints)
        self._seen: str | None = None  # hash of the checkpoint in use, or the step asked for
        self.agent = DreamerAgent(self._config, spec)
        """World model, actor and critic; untrained until `renew` found a checkpoint."""
        self.policy = PolicyNetwork(self._config, spec)
        """Acts with the same weights."""
        self.wall_time_s: float | None = None
        """When the checkpoint in use was saved, in seconds since 1970; None before the first."""
        self.steps: list[int] = []
        """Gradient steps of the checkpoints that there were at the last call, from new to old."""

    def renew(self, step: int | None = None) -> bool:
        """Takes over a checkpoint; True if it is another one than at the last call.

        After any error the weights are those of before.

        Args:
            step: gradient steps of the checkpoint; None for the newest.

        Raises:
            CheckpointCorrupt: all there are are damaged, or were deleted meanwhile.
            BadInput: it is of another run or format, or there is none of the step.
            StorageFailed: the place of the checkpoints cannot be read.
        """
        self.steps = checkpoint.steps(self._store)
        if step is not None:
            wanted = str(step)
        else:
            newest = checkpoint.newest(self._store)
            wanted = None if newest is None else newest.blob_sha256
        if wanted is not None and wanted == self._seen:
            return False
        found = checkpoint.load(self._store, step)
        if found is None:
            return False
        require_same_run(found.facts, found.location, self._config, self._spec)
        state = {**self.agent.state(), **networks_in(found), "gradient_step": found.step}
        self.agent.load_state(state)
        self.policy.load(self.agent.snapshot())
        self._seen = wanted
        self.wall_time_s = found.wall_time_s
        return True


def _on_the_cpu(config: Config) -> Config:
    return dataclasses.replace(config, learner=LearnerConfig(device="cpu"))
