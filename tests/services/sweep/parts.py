"""Plans, nodes and runs that the tests of a sweep are made of."""

import io

from rich.console import Console

from dreamer_core.presets import preset
from services.sweep.plan import RunKey, SweepPlan
from services.sweep.progress import RunState

DEBUG = preset("debug")
PONG_1 = RunKey("pong", 1)


def plan(*games, seeds=(0, 1), config=DEBUG):
    return SweepPlan(config=config, games=games or ("pong", "boxing"), seeds=seeds)


def node(*, is_alive=True, name="box", **resources):
    return {"NodeID": name, "NodeManagerHostname": name, "Alive": is_alive, "Resources": resources}


def state(name="pong", seed=0, phase="running", **values):
    return RunState(key=RunKey(name, seed), total_policy_steps=200, phase=phase, **values)


def text_of(renderable, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()
