"""An exported policy takes the actions of `Policy` over an episode, without this program."""

import json

import cv2
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamer_core import Policy
from dreamer_core.errors import BadInput
from dreamer_core.presets import preset
from dreamer_core.run import export
from dreamer_core.run.export import export_policy
from tests.core.run.test_acting import Steer, make_run
from tests.core.small import CATCH, changed
from tests.learning.catch import make_env as make_catch


def task_of(env):
    return {"env.task": f"{env.__module__}:{env.__name__}"}


STEER = task_of(Steer)
GAUSSIAN = {"world_model.latent": "gaussian"}
SEED, EVALUATE = 3, 11


class Numbers(gymnasium.Env):
    """Numbers to see, and two choices at once."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.draw(), {}

    def step(self, action):
        self.steps += 1
        return self.draw(), 0.0, self.steps == 6, False, {}

    def draw(self):
        return self.np_random.normal(size=4).astype(np.float32)


class Both(Numbers):
    """Numbers besides an image."""

    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (64, 64, 1), np.uint8), numbers=Numbers.observation_space
    )

    def draw(self):
        image = self.np_random.integers(0, 256, (64, 64, 1), np.uint8)
        return {"image": image, "numbers": super().draw()}


def run_of(directory, values):
    return make_run(directory / "run", changed(preset("debug"), {**CATCH, **values}), 4)


def noise(shape, step):
    """The latent's noise of `Policy` in step `step` of its first episode, written out."""
    word = np.random.SeedSequence((EVALUATE, SEED, 0, step)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(word >> np.uint64(1)))
    if len(shape) == 2:  # Gaussian
        return torch.randn(shape, generator=generator).numpy()
    return torch.rand(shape, generator=generator).log_().neg_().numpy()


def seen(observation):
    """What an exported step takes of an observation."""
    if isinstance(observation, dict):
        return {**seen(observation["image"]), **seen(observation["numbers"])}
    if observation.ndim == 1:
        return {"vector": observation[None]}
    return {"image": gray(observation)}


def gray(image):
    if image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).reshape(1, 64, 64, 1)


def played_by(step, facts, observations):
    """The action vectors of an exported step, which is fed as another program would do it."""
    shapes, actions = facts["shapes"], []
    names = ("prev_action", "deter", "stoch")
    memory = [np.ones(shapes[name], np.float32) for name in names]  # is_first: these do not count
    for t, observation in enumerate(observations):
        inputs = seen(observation) | dict(zip(names, memory, strict=True))
        memory = step(inputs | {"is_first": np.array([t == 0]), "noise": noise(shapes["noise"], t)})
        actions.append(memory[0][0])
    return actions


def observed(env, policy):
    """Observations and actions of an episode of `Policy`."""
    observation, _ = env.reset(seed=1)
    observations, actions, is_over = [], [], False
    while not is_over:
        observations.append(observation)
        actions.append(policy.act(observation))
        observation, _, is_over, *_ = env.step(actions[-1])
    return observations, actions


def of_torch(path):
    extra = {f"{export.FACTS}.json": ""}
    module = torch.export.load(path, extra_files=extra).module()

    def step(inputs):
        return [x.numpy() for x in module(**{n: torch.from_numpy(x) for n, x in inputs.items()})]

    return step, json.loads(extra[f"{export.FACTS}.json"])


def of_onnx(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    facts = json.loads(session.get_modelmeta().custom_metadata_map[export.FACTS])
    return lambda inputs: session.run(export.OUTPUTS, inputs), facts


@pytest.mark.parametrize(
    ("name", "load", "env", "values"),
    [
        ("policy.onnx", of_onnx, Steer(), STEER),
        ("policy.pt2", of_torch, make_catch(), {}),
        ("policy.pt2", of_torch, Steer(), {**STEER, **GAUSSIAN}),
        ("policy.pt2", of_torch, Numbers(), task_of(Numbers)),
        ("policy.onnx", of_onnx, Both(), {**task_of(Both), "env.vector_keys": ["numbers"]}),
    ],
)
def test_its_actions_are_those_of_policy_over_an_episode(tmp_path, name, load, env, values):
    for package in ("onnx", "onnxscript", "onnxruntime") if load is of_onnx else ():
        pytest.importorskip(package, reason="needs the extra `export`")
    run_dir = run_of(tmp_path, values)
    observations, wanted = observed(env, Policy.load(run_dir, seed=SEED))
    assert export_policy(run_dir, tmp_path / name).facts["gradient_step"] == 4
    step, facts = load(tmp_path / name)
    got = played_by(step, facts, observations)
    if facts["is_discrete"]:
        ends = np.cumsum(facts["action_classes"] or [])[:-1]
        picked = [[int(part.argmax()) for part in np.split(action, ends)] for action in got]
        assert np.array_equal(np.squeeze(picked), wanted) and len(wanted) > 5
    else:
        low, high = env.action_space.low, env.action_space.high
        native = [low + (action + 1) / 2 * (high - low) for action in got]
        assert np.abs(np.array(native) - wanted).max() < 1e-5


def test_another_kind_of_file_or_a_missing_package_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"wanted a name that ends in \.onnx or \.pt2"):
        export_policy(tmp_path, tmp_path / "policy.pth")
    monkeypatch.setitem(export._NEEDED, ".onnx", ("no_such_package",))
    with pytest.raises(BadInput, match=r"no_such_package, not installed.*\[export\]"):
        export_policy(tmp_path, tmp_path / "policy.onnx")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(BadInput, match="Name another file with --to"):
        export_policy(run_of(tmp_path, {}), tmp_path / "missing" / "policy.pt2")
