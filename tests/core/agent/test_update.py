"""The update in its other forms: compiled, in bfloat16, captured; and how one is chosen."""

import importlib
import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer_core.agent import captured_update, device
from dreamer_core.agent.agent import DreamerAgent, NonFiniteLoss
from dreamer_core.agent.captured_update import CapturedUpdate
from dreamer_core.agent.device import Execution, Staging, choose_execution
from dreamer_core.agent.update import OPTIMIZERS, StepInputs, Update
from dreamer_core.config import Config
from dreamer_core.config_learner import LearnerConfig
from dreamer_core.model.networks import MLP
from dreamer_core.types import EnvSpec
from tests.core.small import (
    CHOICES,
    CPU,
    DISCRETE,
    generator,
    make_batch,
    make_tensors,
    make_world_model,
    parameters_of,
    small,
)

HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
SCHEDULED = {"reinforce_share": 0.9, "reinforce_share_end": 1.0}


def make_agent(
    config: Config | None = None, spec: EnvSpec = DISCRETE, **learner: str
) -> DreamerAgent:
    config = config or small()
    return DreamerAgent(replace(config, learner=LearnerConfig(**learner)), spec)


def inputs_of(
    agent: DreamerAgent, share: float = 1.0, seed: int = 0, spec: EnvSpec = DISCRETE
) -> StepInputs:
    return agent.inputs(agent._staging(make_batch(spec, seed=seed)), share, 1e-3)


def weights(agent: DreamerAgent) -> Tensor:
    return torch.cat([parameters_of(agent.world_model), parameters_of(agent.behavior)]).cpu()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


# --- Compiled -----------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def take_steps(
    agent: DreamerAgent, share: float, spec: EnvSpec = DISCRETE
) -> list[dict[str, float]]:
    metrics = []
    for seed in range(3):
        result = agent._eager_update(inputs_of(agent, share, seed, spec))
        metrics.append({name: float(value) for name, value in result.metrics().items()})
    return metrics


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("share", "spec"), [(1.0, DISCRETE), (0.9, replace(CHOICES, vector_size=5))]
)
def test_every_part_compiles_without_a_graph_break_and_computes_the_same(share, spec, monkeypatch):
    compile_with = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **kw: compile_with(f, backend="aot_eager", **kw)
    )
    plain, compiled = make_agent(spec=spec), make_agent(spec=spec)
    captured_update.compile_parts(compiled.world_model, compiled.behavior, compiled.optimizers)
    steps = [take_steps(agent, share, spec) for agent in (compiled, plain)]
    for ours, theirs in zip(*steps, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert relative_error(weights(compiled), weights(plain)) < 1e-4


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_backward_pass_keeps_output_layers_in_float32():
    agent, inputs = make_agent(), torch.randn(64, 20)
    captured_update.compile_parts(agent.world_model, agent.behavior, agent.optimizers)
    head = MLP(20, 2, 16, 3)
    compiled = torch.compile(head, backend="aot_eager")
    found = []
    for function in (head, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            loss = function(inputs).square().sum()
        found.append(torch.autograd.grad(loss, head.out.weight)[0])
    assert relative_error(found[1], found[0]) < 1e-6


@pytest.mark.usefixtures("fresh_compiler")
def test_compiling_processes_are_not_sent_to_sleep_from_which_some_do_not_wake(monkeypatch):
    settings = importlib.import_module("torch._inductor.config")
    monkeypatch.setattr(settings, "quiesce_async_compile_pool", True)
    agent = make_agent()
    captured_update.compile_parts(agent.world_model, agent.behavior, agent.optimizers)
    assert not settings.quiesce_async_compile_pool


@pytest.fixture
def eager_afterwards():
    yield
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("fresh_compiler", "eager_afterwards")
def test_parts_that_do_not_compile_run_as_they_are_written_with_a_warning(monkeypatch, caplog):
    def refuse(*_arguments):
        raise AssertionError("expected size 1==2")

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kw: compile_with(f, backend=refuse, **kw))
    plain, compiled = make_agent(), make_agent()
    captured_update.compile_parts(compiled.world_model, compiled.behavior, compiled.optimizers)
    theirs = plain._eager_update(inputs_of(plain))
    ours = captured_update.run_compiled(compiled._eager_update, inputs_of(compiled))
    assert torch.equal(ours.values, theirs.values)
    assert "captured without compiling" in caplog.text


@pytest.mark.usefixtures("eager_afterwards")
def test_what_is_wrong_with_more_than_the_compiler_is_raised():
    def fail(_inputs):
        raise ValueError("the batch is empty")

    with pytest.raises(ValueError, match="the batch is empty"):
        captured_update.run_compiled(fail, inputs_of(make_agent()))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_the_scan_step_fuses_into_the_same_function():
    plain, compiled = make_agent(), make_agent()
    steps = compiled.world_model.rssm.scan_steps
    steps.forward = torch.compile(steps.forward, fullgraph=True, dynamic=False)
    steps.backward = torch.compile(steps.backward, fullgraph=True, dynamic=False)
    assert take_steps(compiled, 1.0)[-1] == pytest.approx(take_steps(plain, 1.0)[-1], rel=1e-3)


# --- bfloat16 -----------------------------------------------------------------------------------


def test_bfloat16_products_give_nearly_the_losses_of_float32_and_leave_float32_weights():
    plain, reduced = make_agent(), make_agent()
    update_ = Update(reduced.world_model, reduced.behavior, reduced.optimizers, torch.bfloat16)
    ours, theirs = update_(inputs_of(reduced)), plain._eager_update(inputs_of(plain))
    for name in ("world_model", "image", "kl", "discount"):
        a, b = (float(x.metrics()[f"dreamer_{name}_loss"]) for x in (ours, theirs))
        assert a == pytest.approx(b, rel=0.02)
    assert all(p.dtype == torch.float32 for p in reduced.world_model.parameters())
    assert float(ours.metrics()["dreamer_image_loss"]) != float(
        theirs.metrics()["dreamer_image_loss"]
    )


def test_logits_of_latents_are_not_rounded_to_bfloat16():
    model, data = make_world_model(small()), make_tensors()
    noise = model.rssm.latent.noise(data.reward.shape, generator())
    with torch.autocast("cpu", torch.bfloat16):
        observed = model.loss(data, noise).observed
    for logits in (observed.prior, observed.posterior):
        assert logits.dtype == torch.float32
        is_rounded = logits == logits.bfloat16().float()
        assert is_rounded[:, 1:].float().mean() < 0.2  # as by chance, and rows that begin at zero


@pytest.fixture
def cuda_flags():
    yield torch.backends.cuda.matmul
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    torch.backends.cudnn.allow_tf32 = True


def test_products_in_bfloat16_are_summed_in_float32_and_float32_is_exact(cuda_flags):
    execution = Execution(torch.device("cuda"), torch.bfloat16, is_compiled=False, is_captured=True)
    execution.set_backends()
    assert not cuda_flags.allow_bf16_reduced_precision_reduction
    assert not cuda_flags.allow_tf32 and not torch.backends.cudnn.allow_tf32


def test_each_step_multiplies_as_its_own_agent_says_beside_another_in_the_process(cuda_flags):
    agent, batch = make_agent(), make_batch()
    kind = Execution(torch.device("cuda"), torch.float32, is_compiled=False, is_captured=False)
    agent.execution = kind
    replace(kind, is_tf32=True).set_backends()  # as another agent does
    assert cuda_flags.allow_tf32
    agent.train_step(batch)
    assert not cuda_flags.allow_tf32


# --- What is not finite -------------------------------------------------------------------------


def test_after_a_step_that_is_not_finite_nothing_steps_until_the_flag_is_reset():
    agent = make_agent()
    bad = make_batch()
    bad.reward[0, 0] = float("nan")
    before = weights(agent)
    first = agent._eager_update(agent.inputs(agent._staging(bad), 1.0, 1e-3))
    second = agent._eager_update(inputs_of(agent))
    assert first.is_good.tolist() == second.is_good.tolist() == [False] * len(OPTIMIZERS)
    assert torch.equal(weights(agent), before)
    assert all(opt.state()["num_updates"] == 0 for opt in agent.optimizers.values())
    agent._eager_update.is_good.fill_(True)
    assert agent._eager_update(inputs_of(agent)).is_good.all()


# --- Choice -------------------------------------------------------------------------------------


def test_a_cpu_computes_eagerly_in_float32_and_says_so():
    execution = choose_execution(LearnerConfig(device="cpu"))
    assert str(execution) == "CPU, float32, eager"
    assert not execution.is_captured


@pytest.mark.parametrize(
    "field", [{"precision": "bfloat16"}, {"precision": "tf32"}, {"execution": "captured"}]
)
def test_what_needs_cuda_is_refused_on_a_cpu(field):
    name, value = next(iter(field.items()))
    with pytest.raises(ValueError, match=f"learner.{name}={value} needs a CUDA device"):
        choose_execution(LearnerConfig(device="cpu", **field))


def test_a_staged_batch_is_a_copy():
    batch = make_batch()
    data = Staging(CPU)(batch)
    batch.image[:] = 0
    assert data.image.any()


# --- On a GPU -----------------------------------------------------------------------------------


@needs_cuda
@pytest.mark.parametrize("execution", ["captured", "compiled"])
@pytest.mark.parametrize("behavior", [{}, SCHEDULED])
def test_a_captured_step_is_the_eager_one(execution, behavior):
    config = small(behavior=behavior)
    eager = make_agent(config, device="cuda", precision="float32", execution="eager")
    captured = make_agent(config, device="cuda", precision="float32", execution=execution)
    for seed in range(5):
        ours = captured.train_step(make_batch(seed=seed), policy_step=seed)
        theirs = eager.train_step(make_batch(seed=seed), policy_step=seed)
        for name, value in theirs.items():
            assert float(ours[name]) == pytest.approx(float(value), rel=1e-2, abs=1e-3), name
    assert relative_error(weights(captured), weights(eager)) < 1e-3
    assert isinstance(captured._update, CapturedUpdate)


@needs_cuda
def test_captured_bfloat16_does_not_drift_from_eager_bfloat16():
    eager = make_agent(device="cuda", execution="eager")
    captured = make_agent(device="cuda", execution="captured")
    for seed in range(200):
        eager.train_step(make_batch(seed=seed))
        captured.train_step(make_batch(seed=seed))
    assert relative_error(weights(captured), weights(eager)) < 0.05


@needs_cuda
def test_on_cuda_a_step_that_is_not_finite_is_reported_at_the_latest_by_check():
    agent = make_agent(device="cuda")
    agent.train_step(make_batch())
    bad = make_batch()
    bad.reward[0, 0] = float("nan")
    agent.train_step(bad)
    with pytest.raises(NonFiniteLoss, match="gradient step 1: reward is not finite"):
        agent.check()


# --- The frame around a captured step, without a GPU ----------------------------------------------


def test_inputs_are_copied_into_tensors_of_their_own():
    inputs = inputs_of(make_agent())
    copied = captured_update._copied(inputs)
    for ours, theirs in zip(copied.tensors(), inputs.tensors(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()
    assert copied.reinforce_share == inputs.reinforce_share


def test_a_batch_of_another_size_than_was_captured_is_refused():
    with pytest.raises(ValueError, match=r"captured for tensors of \(3, 8\), but got \(1, 8\)"):
        captured_update._copy_all([torch.zeros(1, 8)], [torch.zeros(3, 8)])


def test_putting_the_buffers_back_undoes_a_step():
    agent, twin = make_agent(), make_agent()
    buffers = agent._eager_update.buffers()
    before = [x.clone() for x in buffers]
    agent._eager_update(inputs_of(agent))
    assert relative_error(weights(agent), weights(twin)) > 0
    captured_update._copy_all(before, buffers)
    assert torch.equal(weights(agent), weights(twin))
    first, second = (x._eager_update(inputs_of(x)).values for x in (agent, twin))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("capability", "can_compile", "expected"),
    [
        ((9, 0), True, "bfloat16, compiled and captured"),
        ((9, 0), False, "bfloat16, captured"),
        ((7, 5), True, "float32, compiled and captured"),
    ],
)
def test_a_card_gets_what_it_can(monkeypatch, capability, can_compile, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    monkeypatch.setattr(device, "_can_compile", lambda _: can_compile)
    assert str(choose_execution(LearnerConfig())) == f"a card, {expected}"
    if capability >= (8, 0):
        execution = choose_execution(LearnerConfig(precision="tf32"))
        assert str(execution) == f"a card, {expected.replace('bfloat16', 'tf32')}"
    else:
        with pytest.raises(ValueError, match="has no bfloat16 units"):
            choose_execution(LearnerConfig(precision="bfloat16"))
