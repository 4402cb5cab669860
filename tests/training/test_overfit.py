"""Can it learn at all? One batch, over and over; and an env where an action is rewarded later."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import make_tiny

from mario_dreamer.training.evaluation import play_episodes, summarise
from mario_dreamer.training.loop import train

TERMS = ("loss_recon", "loss_reward", "loss_cont", "loss_dyn", "loss_rep")
WIDER = [
    "env=toy", "env.image_size=16", "size.deter=32", "size.hidden=16", "size.stoch=4",
    "size.classes=4", "size.depth=4", "size.units=16", "optimizer=adam_agc", "optimizer.warmup=0",
    "optimizer.lr=0.003",
]  # fmt: skip


def overfit(updates: int, *options: str) -> tuple[dict[str, float], dict[str, float]]:
    tiny = make_tiny(*WIDER, *options, without=["env.length"]).fill(40)
    learner = tiny.learner
    learner.world_model_loss.free_nats = 0.0
    batch = tiny.replay.sample(8)
    batch["prev_deter"].zero_()
    history = []
    for _ in range(updates):
        metrics = learner.update(batch.clone())
        history.append({name: float(metrics[name]) for name in TERMS})

    def mean(rows: list[dict[str, float]]) -> dict[str, float]:
        return {name: sum(row[name] for row in rows) / len(rows) for name in TERMS}

    return mean(history[:3]), mean(history[-10:])


def test_every_term_of_the_world_model_falls_on_one_batch() -> None:
    first, last = overfit(75, "optimizer.lr=0.01", "imag_horizon=1")
    assert first["loss_recon"] > 60
    assert last["loss_recon"] < 10
    assert last["loss_reward"] < 0.3 * first["loss_reward"]
    assert last["loss_cont"] < 0.5 * first["loss_cont"]
    for name in ("loss_dyn", "loss_rep"):
        assert last[name] < 0.8 * first[name]


@pytest.mark.slow
def test_the_nature_parts_learn_the_same_batch_with_laprop() -> None:
    first, last = overfit(
        80, "optimizer=laprop", "optimizer.lr=0.001", "encoder=cnn", "decoder=cnn",
        "rssm/sequence_model=block_gru",
    )  # fmt: skip
    assert last["loss_recon"] < 0.5 * first["loss_recon"]
    assert last["loss_reward"] < 0.5 * first["loss_reward"]


@pytest.mark.slow
def test_a_corridor_is_learned_from_the_first_step_to_the_reward(tmp_path: Path) -> None:
    """The whole agent, about a minute: from one in three episodes to nearly all of them."""
    tiny = make_tiny(
        *WIDER, "env.cells=5", "env.max_steps=12", "collector.num_envs=8", "batch_size=8",
        "batch_length=12", "imag_horizon=8", "replay.capacity=20000", "steps=6400",
        "train_ratio=24", "save_every=0", "eval_every=0", without=["env.length"],
    )  # fmt: skip
    before = summarise(play_episodes(tiny.policy, tiny.env, 40))["return"]
    train(*tiny.parts(tmp_path))
    after = summarise(play_episodes(tiny.policy, tiny.env, 40))["return"]
    assert before < 0.75 and after > 0.9, (before, after)
