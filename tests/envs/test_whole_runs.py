"""Recipes with packages of their own, and a user's env, through every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from whole_run import short_config, use_whole_run

pytestmark = pytest.mark.slow

RECIPES = {
    "minigrid": ["env.task=MiniGrid-DoorKey-5x5-v0", "env.max_steps=20"],
    "dmc": ["env.action_repeat=50"],
    "dmc ": ["env.task=walker_walk", "env.pixels=true", "env.action_repeat=50"],
    "atari": ["env.max_steps=30"],
    "crafter": ["env.max_steps=30"],
    "pendulum": ["env.max_steps=20"],
    "cartpole": [],
}
PACKAGES = {"atari": "ale_py", "dmc": "dm_control", "pendulum": "pygame", "cartpole": "pygame"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_goes_through_every_command(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recipe.strip()
    pytest.importorskip(PACKAGES.get(name, name))
    cfg = short_config(f"experiment={name}", *RECIPES[recipe])
    dreams = name in ("atari", "crafter") or "env.pixels=true" in RECIPES[recipe]
    found = use_whole_run(cfg, tmp_path, monkeypatch, dreams)["results"][0]["summary"]
    assert found["episodes"] == 2 and found["length"] > 0
    assert ("stats/collect_wood" in found) == (name == "crafter")


def test_your_own_env_goes_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = short_config("experiment=debug", "env=gym")
    cfg.env = {"_target_": "own_env.make_env", "task": "CartPole-v1"}
    results = use_whole_run(cfg, tmp_path, monkeypatch, dreams=False)["results"]
    assert results[0]["summary"]["episodes"] == 2
