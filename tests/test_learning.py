"""The agent learns: four envs whose best return is known, minutes each; run with -m slow.

Thresholds, experiments and the control of `memory` are those of benchmarks/known_worlds.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from known_worlds import WORLDS, Wiped, judge, train

from mario_dreamer.config import compose


@pytest.mark.slow
@pytest.mark.parametrize("world", ["corridor", "delayed", "cartpole"])
def test_the_agent_comes_close_to_the_best_that_can_be_done(world: str, tmp_path: Path) -> None:
    assert judge(train(world, 0, tmp_path)) >= WORLDS[world].bar


@pytest.mark.slow
def test_memory_carries_a_cue_that_the_frame_alone_lacks(tmp_path: Path) -> None:
    run = train("memory", 0, tmp_path)
    assert judge(run) >= WORLDS["memory"].bar
    # 100 fair coins fall outside of 0.5 +- 0.16 once in a thousand times.
    assert abs(judge(run, wiped=True) - WORLDS["memory"].naive) <= 0.16


def test_the_delayed_reward_comes_after_the_imagined_rollout() -> None:
    cfg = compose.compose_default(["experiment=delayed"])
    assert cfg.env.delay >= 10 and cfg.imag_horizon < cfg.env.delay


def test_a_wiped_policy_sees_every_frame_as_the_first() -> None:
    class Seen(torch.nn.Module):
        in_keys, out_keys = ("is_init",), ()

        def forward(self, tensordict):
            return tensordict

    from tensordict import TensorDict

    state = TensorDict({"is_init": torch.tensor([[True], [False]])}, [2])
    assert Wiped(Seen())(state)["is_init"].all()
