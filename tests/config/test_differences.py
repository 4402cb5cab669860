"""Each named recipe against the reference's defaults: what differs is listed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mario_dreamer.config.compose import compose_default

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LISTED = OmegaConf.to_container(OmegaConf.load(CONFIGS / "differences.yaml"))
RECIPES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


def test_every_recipe_is_listed() -> None:
    assert sorted(LISTED["recipes"]) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_differs_from_the_reference_as_listed(recipe: str) -> None:
    cfg = compose_default([f"experiment={recipe}"])
    reference = LISTED["reference"] | LISTED["env"].get(recipe, {})
    found = {key: OmegaConf.select(cfg, key, throw_on_missing=True) for key in reference}
    assert found == reference | LISTED["recipes"][recipe]
    same = [k for k, v in LISTED["recipes"][recipe].items() if v == reference[k]]
    assert same == [], "listed as a difference, but equal"
