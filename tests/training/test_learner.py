from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from tiny import Tiny, make_tiny

from mario_dreamer.training.finite import NonFiniteLoss
from mario_dreamer.training.optim import ClippedOptimizer


def parts(tiny: Tiny) -> dict[str, torch.nn.Module]:
    agent = tiny.agent
    return {"world_model": agent.world_model, "actor": agent.actor, "critic": agent.critic}


@pytest.fixture(scope="module")
def played() -> TensorDict:
    """A batch of what a fresh agent played; each update takes a clone of it."""
    return make_tiny().fill().replay.sample()


def weights(tiny: Tiny) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tiny.learner.modules.state_dict().items()}


VARIANTS = {
    "nature": ["rssm/sequence_model=block_gru", "encoder=cnn", "decoder=cnn"],
    "strided": [],
    "seed": ["loss=seed_v1", "rssm=rssm_v1", "head@reward=twohot_symlog", "optimizer=adam"],
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient_in_one_update(
    variant: str, precision: str, played: TensorDict
) -> None:
    """Heads that begin with zero weights pass nothing down yet: they are given weights here."""
    tiny = make_tiny(*VARIANTS[variant], f"precision={precision}")
    with torch.no_grad():
        for module in parts(tiny).values():
            for param in module.parameters():
                if not bool(param.any()):
                    param.add_(torch.randn_like(param) * 0.1)
    tiny.learner.world_model_loss.free_nats = 0.0
    tiny.learner.forward_backward(played.clone())
    dead = [
        f"{part}.{name}"
        for part, module in parts(tiny).items()
        for name, param in module.named_parameters()
        if param.grad is None or not bool(param.grad.any())
    ]
    assert dead == []
    assert all(param.grad is None for param in tiny.learner.slow_critic.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_updates_change_every_parameter(precision: str, played: TensorDict) -> None:
    tiny = make_tiny(f"precision={precision}")
    tiny.learner.world_model_loss.free_nats = 0.0
    before = weights(tiny)
    for _ in range(3):
        tiny.learner.update(played.clone())
    still = [key for key, value in weights(tiny).items() if torch.equal(value, before[key])]
    assert still == []


def test_the_optimiser_holds_the_parameters_of_all_parts_once() -> None:
    for variant in VARIANTS.values():
        tiny = make_tiny(*variant)
        groups = tiny.learner.optimizer.optimizer.param_groups
        held = [id(param) for group in groups for param in group["params"]]
        wanted = [id(param) for module in parts(tiny).values() for param in module.parameters()]
        assert sorted(held) == sorted(wanted)
        assert len(set(held)) == len(held)


def test_the_untrained_losses_are_the_golden_ones(played: TensorDict) -> None:
    metrics = make_tiny().learner.update(played.clone())
    ln_255 = 5.541264
    assert float(metrics["loss_reward"]) == pytest.approx(ln_255, abs=1e-5)
    # weights of a dream are below 1, frames that end an episode have no return of their own
    assert float(metrics["loss_critic"]) < 2 * ln_255
    assert float(metrics["value_mean"]) == 0.0 and float(metrics["return_mean"]) == 0.0
    assert float(metrics["entropy"]) == pytest.approx(math.log(3), abs=0.01)
    assert float(metrics["return_scale"]) == 1.0
    assert float(metrics["loss_rep"]) == pytest.approx(0.1 * float(metrics["loss_dyn"]))
    terms = [float(value) for name, value in metrics.items() if name.startswith("loss_")]
    assert len(terms) == 8
    assert float(metrics["total"]) == pytest.approx(sum(terms), rel=1e-5)
    posterior = metrics.pop("posterior")
    assert posterior["deter"].shape == (3, 5, 16)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())


def test_one_seed_gives_one_sequence_of_losses() -> None:
    def losses(seed: int) -> list[float]:
        tiny = make_tiny(seed=seed).fill()
        return [float(tiny.learner.update(tiny.replay.sample())["total"]) for _ in range(2)]

    one = losses(3)
    assert one == losses(3)
    assert one != losses(4)


def test_the_slow_critic_follows_after_the_step(played: TensorDict) -> None:
    tiny = make_tiny("critic.outscale=1.0")
    critic, slow = tiny.agent.critic, tiny.learner.slow_critic
    before = [param.detach().clone() for param in slow.parameters()]
    tiny.learner.update(played.clone())
    for old, new, now in zip(before, critic.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(now, 0.98 * old + 0.02 * new.detach())


def test_a_non_finite_loss_is_named_and_changes_nothing(played: TensorDict) -> None:
    tiny, poisoned = make_tiny(), played.clone()
    poisoned["reward"][0, 0] = float("nan")
    tiny.learner.update(played.clone())
    before, updates = weights(tiny), tiny.learner.updates
    state = tiny.learner.optimizer.state_dict()
    with pytest.raises(NonFiniteLoss, match="update 2: loss_reward"):
        tiny.learner.update(poisoned)
    assert tiny.learner.updates == updates
    after = weights(tiny)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    kept = tiny.learner.optimizer.state_dict()
    assert float(kept["updates"]) == float(state["updates"])


def test_a_good_batch_after_a_bad_one_is_learned_normally(played: TensorDict) -> None:
    tiny, other, bad = make_tiny(), make_tiny(), played.clone()
    bad["prev_action"].fill_(float("nan"))  # poisons states, rollouts and the range of returns
    with pytest.raises(NonFiniteLoss):
        tiny.learner.update(bad)
    for one in (tiny, other):
        torch.manual_seed(9)
        one.learner.update(played.clone())
    after, expected = weights(tiny), weights(other)
    assert all(torch.equal(value, expected[key]) for key, value in after.items())


def test_rollouts_can_start_from_the_last_records_only(played: TensorDict) -> None:
    tiny = make_tiny("imagination_starts=2")
    sizes = []
    tiny.learner.imagination.register_forward_hook(lambda _, __, dream: sizes.append(dream.shape))
    metrics = tiny.learner.update(played.clone())
    assert sizes == [torch.Size([3 * 2])]
    assert metrics["posterior"].shape == (3, 5)


def test_three_optimiser_groups_tell_three_gradient_norms(played: TensorDict) -> None:
    tiny = make_tiny("optimizer=adam", "critic.outscale=1.0")
    metrics = tiny.learner.update(played.clone())
    for name in ("world_model", "actor", "critic"):
        assert float(metrics[f"grad_norm_{name}"]) > 0


def test_a_clipped_optimizer_steps_what_the_config_asks_for() -> None:
    tiny = make_tiny("optimizer=adam_agc")
    assert isinstance(tiny.learner.optimizer, ClippedOptimizer)
    assert isinstance(tiny.learner.optimizer.optimizer, torch.optim.Adam)


def test_the_average_forgets_the_first_weights_within_few_updates(played: TensorDict) -> None:
    tiny = make_tiny("average_rate=0.001", "actor.outscale=1.0")
    param, average = next(tiny.learner.actor.parameters()), None
    expected: torch.Tensor | None = None
    for n in (1, 2, 3):
        tiny.learner.update(played.clone())
        average = next(tiny.learner.average["actor"].parameters())
        rate = {1: 10 / 10, 2: 10 / 11, 3: 10 / 12}[n]
        expected = param.clone() if expected is None else expected + rate * (param - expected)
        torch.testing.assert_close(average, expected)
    again = make_tiny("average_rate=0.001", "actor.outscale=1.0", seed=3)
    again.learner.load_state_dict(tiny.learner.state_dict())
    assert float(again.learner.average.count) == 3


def test_the_average_moves_by_its_rate_after_many_updates(played: TensorDict) -> None:
    tiny = make_tiny("average_rate=0.25", "actor.outscale=1.0")
    tiny.learner.average.count.fill_(99)  # 10 / 109 is less than the rate
    average = next(tiny.learner.average["actor"].parameters())
    before = average.clone()
    tiny.learner.update(played.clone())
    now = next(tiny.learner.actor.parameters())
    torch.testing.assert_close(average, before + 0.25 * (now - before))
