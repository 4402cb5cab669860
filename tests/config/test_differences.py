"""Each named recipe: its networks fit together, and it differs from the reference as listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from tiny import make_tiny
from torchrl.envs import EnvBase

from mario_dreamer.config import limits
from mario_dreamer.config.build import make_agent
from mario_dreamer.config.command_line import compose_config
from mario_dreamer.config.compose import compose_default, own_env_options
from mario_dreamer.config.contracts import rehearse

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LISTED = OmegaConf.to_container(OmegaConf.load(CONFIGS / "differences.yaml"))
RECIPES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


def test_every_recipe_is_listed() -> None:
    assert sorted(LISTED["recipes"]) == RECIPES


@pytest.fixture(scope="module", params=RECIPES)
def composed(request: pytest.FixtureRequest) -> tuple[str, DictConfig]:
    """A recipe's name and configuration."""
    return request.param, compose_config("train", [f"experiment={request.param}"])


def test_every_recipe_resolves_and_keeps_the_rules(composed: tuple[str, DictConfig]) -> None:
    OmegaConf.to_container(composed[1], resolve=True, throw_on_missing=True)
    limits.check_numbers(composed[1])
    assert own_env_options(composed[1], [])[1] == [], "options that its env does not take"


@pytest.fixture(scope="module")
def env() -> EnvBase:
    return make_tiny().env


def test_the_networks_of_every_recipe_pass_the_rehearsal(
    composed: tuple[str, DictConfig], env: EnvBase
) -> None:
    rehearse(make_agent(composed[1], env))


def test_the_networks_without_a_recipe_pass_the_rehearsal(env: EnvBase) -> None:
    rehearse(make_agent(compose_default([]), env))


def test_a_recipe_differs_from_the_reference_as_listed(composed: tuple[str, DictConfig]) -> None:
    recipe, cfg = composed
    reference = LISTED["reference"] | LISTED["env"].get(recipe, {})
    found = {key: OmegaConf.select(cfg, key, throw_on_missing=True) for key in reference}
    assert found == reference | LISTED["recipes"][recipe]
    same = [k for k, v in LISTED["recipes"][recipe].items() if v == reference[k]]
    assert same == [], "listed as a difference, but equal"
