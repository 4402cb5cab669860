"""The contract of the `env` slot: what a run takes from a user's own TorchRL env."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import own_env
import pytest
import torch
from torchrl.envs import (
    Compose,
    EnvBase,
    GymEnv,
    InitTracker,
    RewardSum,
    SerialEnv,
    StepCounter,
    TransformedEnv,
)

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.config.load_agent import LoadedAgent, agent_of
from mario_dreamer.envs.torchrl import check_contract, with_agent_interface
from mario_dreamer.training.evaluation import play_episodes
from mario_dreamer.training.filming import film

SHORT = [
    "experiment=debug", "env=gym", "+env.task=CartPole-v1", "precision=fp32", "threads=1", "device=cpu",
    "batch_size=2", "batch_length=8", "imag_horizon=3", "steps=32", "collector.num_envs=2",
    "collector.eval_envs=1", "train_ratio=4", "eval_every=32", "eval_episodes=1", "save_every=32",
    "log_every=32", "tracker=none",
]  # fmt: skip


def with_bookkeeping_of_its_own(num_envs: int = 1, seed: int = 0) -> EnvBase:
    """The same env with TorchRL's usual transforms around it."""
    return TransformedEnv(
        own_env.make_env(num_envs, seed), Compose(InitTracker(), StepCounter(), RewardSum())
    )


@pytest.mark.parametrize("make", [own_env.make_env, with_bookkeeping_of_its_own])
def test_a_run_adds_the_transforms_that_are_missing(make) -> None:
    env = with_agent_interface(make(2, 3))
    check_contract(env)
    played = env.rollout(25, break_when_any_done=False)
    assert played["vector"].shape == (2, 25, 4) and "observation" not in played
    last = played["next"][played["next", "done"].squeeze(-1)]
    assert len(last) and torch.equal(last["episode_reward"], last["step_count"].float())
    assert torch.equal(played["is_init"][:, 1:], played["next", "done"][:, :-1])


def test_an_env_that_is_ready_is_left_as_it_is() -> None:
    env = with_agent_interface(own_env.make_env(1))
    assert with_agent_interface(env) is env


def test_your_own_env_trains_evaluates_films(tmp_path: Path) -> None:
    cfg = compose.compose_default([*SHORT, f"runs_dir={tmp_path}", "name=own"])
    cfg.env = {"_target_": "own_env.make_env", "task": "CartPole-v1"}
    result = train.run_training(cfg, [])
    assert result["status"] == "FINISHED"
    again = compose.compose_default([f"resume={tmp_path}/own", f"runs_dir={tmp_path}"])
    again.trust_config = True
    assert train.run_training(again, ["steps=48"])["status"] == "FINISHED"
    agent = newest_agent(tmp_path)
    env = agent.make_env()
    episodes = play_episodes(agent.policy, env, 1, film=film)
    frames = episodes[0].frames
    assert len(frames) == episodes[0].stats["length"] and frames.shape[1:] == (3, 400, 600)
    env.close()


def newest_agent(folder: Path) -> LoadedAgent:
    """Load the run's newest checkpoint as evaluate and play do."""
    from omegaconf import OmegaConf

    return agent_of(
        OmegaConf.create(
            {"checkpoint": str(folder / "own"), "runs_dir": str(folder), "trust_config": True,
             "device": "cpu", "precision": "fp32", "threads": 1, "seed": 0, "env": {}}
        )
    )  # fmt: skip


def test_what_is_no_batch_of_envs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch size \[N\], got \[\].*SerialEnv"):
        with_agent_interface(GymEnv("CartPole-v1"))
    with pytest.raises(ValueError, match="EnvBase, got CartPoleEnv"):
        with_agent_interface(gymnasium.make("CartPole-v1").unwrapped)


def test_a_step_without_what_a_run_reads_is_refused() -> None:
    env = SerialEnv(1, lambda: GymEnv("CartPole-v1"))
    with pytest.raises(ValueError, match="is_init.*nothing.*configs/README.md"):
        check_contract(env)


def test_an_env_that_is_not_there_is_left_to_the_one_line_of_its_building(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = compose.compose_default(["env=own", "env._target_=own_env.nothing"])
    assert cfg.env._target_ == "own_env.nothing" and caplog.text == ""


def test_the_page_of_the_slots_shows_this_env() -> None:
    code = Path(own_env.__file__).read_text().split('"""\n', 1)[1].strip()
    assert len(code.splitlines()) <= 15
    assert code in (Path(__file__).parents[2] / "configs" / "README.md").read_text()


def test_a_reset_without_an_observation_of_the_spec_is_named() -> None:
    env = with_agent_interface(SerialEnv(1, lambda: GymEnv("CartPole-v1")))
    reset = env.reset
    env.reset = lambda: reset().exclude("vector")
    with pytest.raises(ValueError, match=r"a reset gave 'vector' as nothing; .* \[1, 4\]"):
        check_contract(env)


def test_a_step_without_an_observation_of_the_spec_is_named() -> None:
    env = with_agent_interface(SerialEnv(1, lambda: GymEnv("CartPole-v1")))
    step = env.rand_step
    env.rand_step = lambda begun: step(begun).exclude(("next", "vector"))
    with pytest.raises(ValueError, match=r"a step gave \('next', 'vector'\) as nothing"):
        check_contract(env)
