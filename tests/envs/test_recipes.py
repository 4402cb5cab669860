"""Recipes with packages of their own: they play through the agent's keys, or say what to install."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from tensordict.nn import TensorDictModule as Mod
from torchrl.envs import check_env_specs

from mario_dreamer.config import build, compose
from mario_dreamer.training.filming import film

KINDS = {"atari": "ale_py", "crafter": "crafter", "minigrid": "minigrid", "dmc": "dm_control"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_named_with_its_extra(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, KINDS[kind], None)
    make = getattr(importlib.import_module(f"mario_dreamer.envs.{kind}"), f"make_{kind}_env")
    with pytest.raises(ImportError, match=rf'{KINDS[kind]}.*"mario_dreamer\[{kind}\]"'):
        make(num_envs=1)


@pytest.mark.parametrize(
    ("experiment", "package", "shapes", "actions"),
    [("minigrid", "minigrid", {"vector": (980,)}, 7),
     pytest.param("crafter", "crafter", {"pixels": (3, 64, 64)}, 17, marks=pytest.mark.slow),
     ("atari", "ale_py", {"pixels": (3, 64, 64)}, 6),
     ("pendulum", "pygame", {"vector": (3,)}, 1),
     ("dmc", "dm_control", {"vector": (5,)}, 1)],
)  # fmt: skip
def test_a_recipe_plays_through_the_agents_keys(
    experiment: str, package: str, shapes: dict[str, tuple[int, ...]], actions: int
) -> None:
    pytest.importorskip(package)
    cfg = compose.compose_default([f"experiment={experiment}"])
    env = build.make_env(cfg, 2, 0)
    check_env_specs(env)
    assert build.shapes_of(env) == (shapes, actions)
    env.set_seed(5)
    first = env.reset()
    assert film(env, first) is not None
    env.set_seed(5)
    for key in shapes:
        assert torch.equal(first[key], env.reset()[key])
    env.close()


def test_an_atari_step_is_four_frames() -> None:
    pytest.importorskip("ale_py")
    from mario_dreamer.envs.atari import make_atari_env

    env = make_atari_env("pong", noops=0)
    played = env.rollout(5)
    ale = env.base_env
    while hasattr(ale, "base_env"):
        ale = ale.base_env
    assert ale.unwrapped[0].ale.getEpisodeFrameNumber() == 20
    assert played["pixels"].dtype == torch.uint8


def test_a_dmc_step_renders_once_and_sums_the_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dm_control")
    from dm_control.mujoco import Physics

    from mario_dreamer.envs.dmc import make_dmc_env

    rendered = []
    draw = Physics.render
    monkeypatch.setattr(Physics, "render", lambda *a, **k: rendered.append(1) or draw(*a, **k))
    returns = []
    for pixels, repeat in ((True, 20), (False, 20), (False, 1)):
        env = make_dmc_env("cartpole_balance", pixels=pixels, image_size=16, action_repeat=repeat)
        env.set_seed(3)
        state, total = env.reset(), 0.0
        rendered.clear()
        for _ in range(60 // repeat):
            played, state = env.step_and_maybe_reset(state.set("action", torch.full((1, 1), 0.1)))
            total += played["next", "reward"].item()
        assert len(rendered) == (3 if pixels else 0)
        returns.append(total)
        env.close()
    assert returns[0] == pytest.approx(returns[1]) == pytest.approx(returns[2])
    assert returns[0] > 30


@pytest.mark.slow
def test_crafter_reports_its_achievements_and_its_end() -> None:
    pytest.importorskip("crafter")
    from mario_dreamer.envs.crafter import make_crafter_env

    env = make_crafter_env(max_steps=200)
    noop = torch.zeros(1, 17, dtype=torch.int64)
    noop[0, 6] = 1  # sleep, and wake up
    played = env.rollout(200, Mod(lambda _: noop, ["is_init"], ["action"]))
    stats = played["next", "stats"][0]
    assert len(stats.keys()) == 22 and stats["wake_up"].max() == 1 and stats["wake_up"][0] == 0
    assert played["next", "reward"][0].max() > 0.8  # an achievement pays 1, damage costs 0.1
    assert played["next", "truncated"][0, -1] != played["next", "terminated"][0, -1]


def test_a_recipes_env_options_do_not_leak_into_another_env() -> None:
    cfg = compose.compose_default(["experiment=laptop", "env=cartpole"])
    assert "action_set" not in cfg.env and cfg.env.env_id == "CartPole-v1"
    typed = compose.compose_default(["experiment=laptop", "env=cartpole", "+env.colour=1"])
    assert typed.env.colour == 1  # what was typed stays, and is refused when it is built
    with pytest.raises(ValueError, match="colour"):
        build.make_env(typed, 1, 0)
