"""From the env to the learner's batch: every frame with the action that led to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensordict import TensorDictBase
from tiny import make_tiny

from mario_dreamer.training.loop import learn, train


def shade(records: TensorDictBase) -> torch.Tensor:
    """t, as the counting env draws it; [B, T]."""
    return records["pixels"][:, :, 0, 5, 5].long()


def mark(records: TensorDictBase) -> torch.Tensor:
    """1 + a_{t-1} as painted into the top left pixel, 0 in an opening frame; [B, T]."""
    return records["pixels"][:, :, 0, 0, 0].long()


@pytest.mark.parametrize(
    ("ending", "length", "latents"),  # each pair of choices once
    [
        ("terminated", 6, True), ("terminated", 2, False),
        ("truncated", 6, False), ("truncated", 2, True),
    ],
)  # fmt: skip
def test_each_frame_has_its_own_action_reward_and_flags(
    ending: str, length: int, latents: bool
) -> None:
    tiny = make_tiny(
        f"env.ending={ending}", f"env.length={length}", f"replay.latents={latents}",
        "batch_size=9", "imag_horizon=1", "replay.capacity=60",  # smaller than what is played: the ring has turned
    ).fill(40)  # fmt: skip
    seen: list[TensorDictBase] = []
    loss = tiny.learner.world_model_loss
    loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    for _ in range(5):
        learn(tiny.replay, tiny.learner)
    records = torch.cat(seen)
    time, painted = shade(records), mark(records)
    torch.testing.assert_close(records["reward"][..., 0], 10.0 * time)
    starts = time == 0
    assert torch.equal(painted == 0, starts)
    known = ~starts
    if not latents:  # what came before a window is not known there
        assert bool(records["is_first"][:, 0].all())
        known[:, 0] = False
    assert torch.equal(records["prev_action"].argmax(-1)[known] + 1, painted[known])
    assert float(records["prev_action"][starts].abs().sum()) == 0.0
    assert bool(records["is_first"][..., 0][starts].all())
    assert torch.equal(records["is_last"][..., 0], time == length)
    dies = ending == "terminated"
    assert torch.equal(records["is_terminal"][..., 0], (time == length) & dies)
    assert set(time.unique().tolist()) == set(range(length + 1)), "every frame reaches the learner"


def test_first_and_last_frames_of_short_episodes_are_learned(tmp_path: Path) -> None:
    """Episodes of two steps, windows of five records: each window crosses episode ends."""
    tiny = make_tiny(
        "env.length=2", "steps=64", "train_ratio=7.5", "save_every=0", "eval_every=0"
    )
    parts, run = tiny.parts(tmp_path)
    times, lasts = [], []

    def look(_: object, inputs: tuple) -> None:
        times.append(shade(inputs[0]).flatten())
        lasts.append(inputs[0]["is_terminal"].flatten())

    tiny.learner.world_model_loss.register_forward_pre_hook(look)
    train(parts, run)
    time, last = torch.cat(times), torch.cat(lasts)
    counts = torch.bincount(time, minlength=3).float() / len(time)
    assert torch.allclose(counts, torch.full((3,), 1 / 3), atol=0.08)
    assert torch.equal(last, time == 2)


def test_a_window_starts_from_the_state_that_was_played(tmp_path: Path) -> None:
    tiny = make_tiny("env.length=30", "batch_size=20")
    tiny.agent.world_model.rssm.unimix = 0.0
    with torch.no_grad():
        tiny.agent.world_model.rssm.posterior.out.weight.mul_(1e5)  # certain latents
    transitions = tiny.collect(28)
    tiny.replay.extend(transitions)
    batch = tiny.replay.sample()
    learned = tiny.agent.world_model(batch.clone())
    played = transitions["next", "deter"]
    compared = 0
    for row in range(20):
        env, times = int(batch["stream"][row, 0]), shade(batch)[row]
        for t in range(5):
            if times[t] < 28:  # the frame after the last step has not been acted on
                torch.testing.assert_close(
                    learned["deter"][row, t], played[env, times[t]], atol=2e-3, rtol=0
                )
                compared += 1
    assert compared > 50
