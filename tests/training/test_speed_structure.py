"""What makes an update fast, counted instead of timed: nothing is computed twice."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mario_dreamer.config import build
from mario_dreamer.config.compose import compose_default
from mario_dreamer.networks.layers import MLP
from mario_dreamer.precision import autocast
from mario_dreamer.training.learner import Learner

B, T, H, A = 2, 4, 3, 3
TINY = [
    "size=debug",
    "encoder=cnn",
    "tracker=none",
    "env=counting",
    "env.image_size=32",
    "device=cpu",
    f"batch_size={B}",
    f"batch_length={T}",
    f"imag_horizon={H}",
    "precision=fp32",
]


compose = functools.cache(lambda *words: compose_default(list(words)))


def make_learner(*changes: str) -> Learner:
    cfg = compose(*TINY, *changes)
    build.seed_everything(0)
    return build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))


def make_records() -> TensorDict:
    generator = torch.Generator().manual_seed(1)
    no = torch.zeros(B, T, 1, dtype=torch.bool)
    pixels = torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8, generator=generator)
    action = torch.eye(A)[torch.randint(A, (B, T), generator=generator)]
    reward = torch.rand(B, T, 1, generator=generator)
    flags = {"is_first": no, "is_last": no.clone(), "is_terminal": no.clone()}
    root = {"pixels": pixels, "prev_action": action, "reward": reward, **flags}
    return TensorDict(root, [B, T])


class Calls:
    """Count how often a module's forward runs, and on how many rows."""

    def __init__(self, module: nn.Module) -> None:
        self.rows: list[int] = []
        module.register_forward_pre_hook(self._note)

    def _note(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        first = args[0] if isinstance(args[0], Tensor) else next(iter(args[0].values()))
        self.rows.append(first.shape[:-1].numel())


@pytest.fixture(scope="module")
def rows() -> dict[str, list[int]]:
    """On how many rows each network ran in one update, in order."""
    learner = make_learner()
    world_model = learner.world_model
    networks = {
        "encoder": next(iter(world_model.encoder.encoders.values())),
        "decoder": world_model.decoders["pixels"].head,
        "critic": learner.critic.head,
        "reward": world_model.reward.head,
        "cont": world_model.cont.head,
        "prior": world_model.rssm.prior,
    }
    calls = {name: Calls(network) for name, network in networks.items()}
    learner.forward_backward(make_records())
    return {name: call.rows for name, call in calls.items()}


def test_the_frames_are_encoded_and_decoded_once(rows: dict[str, list[int]]) -> None:
    assert len(rows["encoder"]) == len(rows["decoder"]) == 1


def test_the_critic_runs_once_on_rollouts_and_once_on_records(rows: dict[str, list[int]]) -> None:
    assert rows["critic"] == [B * T * (H + 1), B * (T - 1)]


def test_reward_and_continue_heads_run_once_on_rollouts(rows: dict[str, list[int]]) -> None:
    assert rows["reward"] == rows["cont"] == [B * T, B * T * (H + 1)]


def test_observing_runs_the_prior_once_imagining_once_a_step(rows: dict[str, list[int]]) -> None:
    assert rows["prior"] == [B * T] + [B * T] * H


def test_one_backward_makes_all_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, calls = make_learner(), []
    backward = torch.autograd.backward
    monkeypatch.setattr(
        torch.autograd, "backward", lambda roots: (calls.append(len(roots)), backward(roots))[1]
    )
    learner.forward_backward(make_records())
    assert calls == [3]  # from three roots: world model, actor, critic
    trained = [learner.world_model, learner.actor, learner.critic]
    assert all(p.grad is not None for module in trained for p in module.parameters())


@pytest.mark.parametrize("changes", [[], ["rssm=rssm_v1", "loss=seed_v1"]])
def test_no_value_is_read_on_the_host(changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads a tensor's value into Python, as a captured CUDA graph could not."""

    def refuse(*args: Any) -> None:
        raise AssertionError("a value was read out of a tensor: on a GPU, the host would wait")

    learner, records = make_learner(*changes), make_records()
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"):
            patch.setattr(Tensor, name, refuse)
        learner.forward_backward(records)


class Watch(TorchDispatchMode):
    """Write down the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_slice_in_time_is_one_matrix_product() -> None:
    """As [N, T] batches, every sequence would get a copy of the weights of its own."""
    network, states = MLP(6, 8, 1, out_dim=2), torch.randn(5, 4, 6, requires_grad=True)
    with Watch() as watch:
        out = network(states[:, :3])
        out.sum().backward()
    assert "bmm" not in watch.seen and "baddbmm" not in watch.seen
    torch.testing.assert_close(out, network(states)[:, :3])


def test_features_are_rounded_once_where_they_are_made() -> None:
    rssm = make_learner().world_model.rssm
    deter, stoch = torch.rand(2, rssm.deter_dim), torch.rand(2, *rssm.stoch_shape)
    assert rssm.feat(deter, stoch).dtype is torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        half = rssm.feat(deter, stoch)
    assert torch.equal(half, rssm.feat(deter, stoch).bfloat16())


def test_shapes_do_not_depend_on_what_is_in_the_batch() -> None:
    """No `nonzero`, no boolean index: an update can be captured and replayed."""
    learner = make_learner()
    with Watch() as watch:
        learner.forward_backward(make_records())
    assert {"addmm", "mm"} & set(watch.seen)
    assert not {"nonzero", "masked_select", "_local_scalar_dense", "unique"} & set(watch.seen)


def test_a_bfloat16_update_is_close_to_a_float32_update() -> None:
    """Losses within 2 percent, every gradient's direction within a cosine of 0.9."""
    said, gradients = [], []
    for dtype in (None, torch.bfloat16):
        learner = make_learner()
        torch.manual_seed(3)
        with autocast(learner.device, dtype):
            losses, _ = learner.world_model_loss(make_records())
        terms = {name: value for name, value in losses.items() if name.startswith("loss_")}
        sum(terms.values()).backward()
        said.append({name: float(value) for name, value in terms.items()})
        parts = dict(learner.world_model.encoder.named_parameters())
        parts |= dict(learner.world_model.decoders.named_parameters())
        gradients.append({name: part.grad.flatten() for name, part in parts.items()})
    assert said[1] == pytest.approx(said[0], rel=0.02)
    for name, gradient in gradients[0].items():
        assert torch.cosine_similarity(gradient, gradients[1][name], dim=0) > 0.9, name
