"""The whole agent against the paper's own code: losses, gradients and updates on one batch.

`reference-agent.npz` (0.9 MB) holds numbers of one run of danijar/dreamerv3 (commit e3f0224) on a
small agent, every sample replaced by the arg-max: inputs, `P:` weights, `L:` loss terms before the
mean, `G:` gradients, `F:` posterior states, `N:` the return range afterwards, `U0:total` ..
`U5:total` of six updates.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tiny import Tiny, make_tiny
from torch import Tensor, nn

from mario_dreamer.distributions import OneHotCategorical

SIZES = [
    "size.deter=64", "size.hidden=16", "size.stoch=8", "size.classes=4", "size.depth=4",
    "size.units=16", "size.behaviour_layers=3", "env.image_size=64", "env.num_actions=7",
    "encoder=cnn", "decoder=cnn", "rssm/sequence_model=block_gru", "actor.unimix=0",
    "imag_horizon=5", "imagination_starts=4", "optimizer.warmup=3", "optimizer.lr=1e-3",
]  # fmt: skip

# The reference's module -> ours; a layer's norm has the layer's name with `norm` behind it.
RSSM, DECODER = "world_model.rssm", "world_model.decoders.pixels.head"
LAYERS = {
    "dyn/dynin0": (f"{RSSM}.sequence_model.embed_deter.0", f"{RSSM}.sequence_model.embed_deter.1"),
    "dyn/dynin1": (f"{RSSM}.sequence_model.embed_stoch.0", f"{RSSM}.sequence_model.embed_stoch.1"),
    "dyn/dynin2": (f"{RSSM}.sequence_model.embed_action.0", f"{RSSM}.sequence_model.embed_action.1"),
    "dyn/dynhid0": (f"{RSSM}.sequence_model.mix.0", f"{RSSM}.sequence_model.mix.1"),
    "dyn/dyngru": (f"{RSSM}.sequence_model.gates", ""),
    "dyn/prior0": (f"{RSSM}.prior.hidden.0.0", f"{RSSM}.prior.hidden.0.1"),
    "dyn/prior1": (f"{RSSM}.prior.hidden.1.0", f"{RSSM}.prior.hidden.1.1"),
    "dyn/priorlogit": (f"{RSSM}.prior.out", ""),
    "dyn/obs0": (f"{RSSM}.posterior.hidden.0.0", f"{RSSM}.posterior.hidden.0.1"),
    "dyn/obslogit": (f"{RSSM}.posterior.out", ""),
    "dec/sp0": (f"{DECODER}.input.from_deter", ""),
    "dec/sp1": (f"{DECODER}.input.from_stoch.0.0", f"{DECODER}.input.from_stoch.0.1"),
    "dec/sp2": (f"{DECODER}.input.from_stoch.1", ""),
    "dec/sp": ("", f"{DECODER}.input.norm"),
    "dec/conv2": (f"{DECODER}.stages.0", f"{DECODER}.stages.1.norm"),
    "dec/conv1": (f"{DECODER}.stages.3", f"{DECODER}.stages.4.norm"),
    "dec/conv0": (f"{DECODER}.stages.6", f"{DECODER}.stages.7.norm"),
    "dec/imgout": (f"{DECODER}.stages.9", ""),
}
for _i in range(4):
    _at = f"world_model.encoder.encoders.pixels.stages.{4 * _i}"
    _norm = f"world_model.encoder.encoders.pixels.stages.{4 * _i + 2}.norm"
    LAYERS[f"enc/cnn{_i}"] = (_at, _norm)
HEADS = {
    "rew": "world_model.reward", "con": "world_model.cont", "pol": "actor", "val": "critic",
    "slowval": "slow_critic",
}  # fmt: skip


@functools.cache
def fixture() -> dict[str, np.ndarray]:
    return dict(np.load(Path(__file__).with_name("reference-agent.npz")))


def our_name(theirs: str) -> str:
    """dyn/dynin0norm/scale -> world_model.rssm.sequence_model.embed_deter.1.weight."""
    module, layer, *_, kind = theirs.split("/")
    leaf = "bias" if kind == "bias" else "weight"
    if module in HEADS:
        mlp = f"{HEADS[module]}.head.mlp"
        if layer == "head":
            return f"{mlp}.out.{leaf}"
        part = theirs.split("/")[2]
        return f"{mlp}.hidden.{part[-1]}.{int(part.startswith('norm'))}.{leaf}"
    linear, norm = LAYERS[f"{module}/{layer.removesuffix('norm')}"]
    return f"{norm if layer.endswith('norm') else linear}.{leaf}"


def our_layout(value: np.ndarray, name: str) -> Tensor:
    """Convolutions are [h, w, in, out] there, linear layers [in, out]; block-linear as ours."""
    tensor = torch.from_numpy(value)
    if name.endswith("kernel") and tensor.ndim != 3:
        tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
    return tensor.contiguous()


def theirs(prefix: str) -> dict[str, Tensor]:
    """All tensors of a prefix but the return range, under our names."""
    names = [key for key in fixture() if key.startswith(prefix) and "retnorm" not in key]
    return {
        our_name(key.removeprefix(prefix)): our_layout(fixture()[key], key) for key in names
    }  # fmt: skip


def records() -> TensorDict:
    data = fixture()
    batch, length = data["reward"].shape
    flat = {key: torch.from_numpy(data[key]) for key in ("is_first", "is_last", "is_terminal")}
    found = {key: value.unsqueeze(-1) for key, value in flat.items()}
    found["reward"] = torch.from_numpy(data["reward"]).unsqueeze(-1)
    found["pixels"] = torch.from_numpy(data["image"]).permute(0, 1, 4, 2, 3).contiguous()
    found["prev_action"] = torch.eye(7)[torch.from_numpy(data["prev_action"]).long()]
    for key, start in (("prev_deter", "deter0"), ("prev_stoch", "stoch0")):
        state = torch.from_numpy(data[start])
        found[key] = state[:, None].expand(batch, length, *state.shape[1:]).contiguous()
    return TensorDict(found, [batch, length])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """An agent with the reference's weights that takes the likeliest in place of a sample."""
    likeliest: Any = lambda self, *_, **__: self.mode  # noqa: E731
    monkeypatch.setattr(OneHotCategorical, "sample", likeliest)
    made = make_tiny(*SIZES)
    weights = theirs("P:")
    with torch.no_grad():
        for name, param in parameters(made).items():
            param.copy_(weights.pop(name))
    assert not weights, f"the reference has weights that we lack: {sorted(weights)}"
    norm = made.learner.returns.norm
    norm.low.fill_(float(fixture()["P:retnorm/lo/value"]))
    norm.high.fill_(float(fixture()["P:retnorm/hi/value"]))
    return made


def parameters(tiny: Tiny) -> dict[str, nn.Parameter]:
    learner = tiny.learner
    parts = {"world_model": learner.world_model, "actor": learner.actor}
    parts |= {"critic": learner.critic, "slow_critic": learner.slow_critic}
    return dict(nn.ModuleDict(parts).named_parameters())


def test_every_loss_term_equals_the_references(tiny: Tiny) -> None:
    found, data = tiny.learner.forward_backward(records()), fixture()
    terms = {
        "recon": ("image", 1.0), "reward": ("rew", 1.0), "cont": ("con", 1.0), "dyn": ("dyn", 1.0),
        "rep": ("rep", 0.1), "actor": ("policy", 1.0), "critic": ("value", 1.0),
        "critic_replay": ("repval", 0.3),
    }  # fmt: skip
    for ours, (name, weight) in terms.items():
        expected = weight * float(data[f"L:{name}"].mean())
        assert float(found[f"loss_{ours}"]) == pytest.approx(expected, rel=2e-6), ours
    assert float(found["total"]) == pytest.approx(float(data["total"]), rel=1e-6)


def test_the_states_and_the_return_range_equal_the_references(tiny: Tiny) -> None:
    found, data = tiny.learner.forward_backward(records()), fixture()
    deter = torch.from_numpy(data["F:deter"])
    torch.testing.assert_close(found["posterior", "deter"], deter, atol=1e-5, rtol=1e-5)
    norm = tiny.learner.returns.norm
    assert float(norm.low) == pytest.approx(float(data["N:retnorm/lo/value"]), rel=1e-5)
    assert float(norm.high) == pytest.approx(float(data["N:retnorm/hi/value"]), rel=1e-5)


def test_every_gradient_equals_the_references(tiny: Tiny) -> None:
    tiny.learner.forward_backward(records())
    expected = theirs("G:")
    found = {name: param.grad for name, param in parameters(tiny).items() if param.grad is not None}
    assert found.keys() == expected.keys()
    difference = torch.stack([(found[name] - expected[name]).norm() for name in found]).norm()
    whole = torch.stack([value.norm() for value in expected.values()]).norm()
    assert float(difference / whole) < 5e-6
    for name, value in found.items():
        assert float((value - expected[name]).norm() / expected[name].norm()) < 1e-3, name


def test_six_whole_updates_follow_the_references(tiny: Tiny) -> None:
    for update in range(6):
        metrics = tiny.learner.update(records())
        expected = float(fixture()[f"U{update}:total"])
        assert float(metrics["total"]) == pytest.approx(expected, rel=1e-4), update
