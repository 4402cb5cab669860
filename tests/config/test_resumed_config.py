"""What a resume changes in the stored configuration, and what it refuses to change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny import tiny_config

from mario_dreamer.config.stored import DERIVED, resumed_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    cfg = OmegaConf.create(OmegaConf.to_container(tiny_config("discount=0.9"), resolve=True))
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    return tmp_path


def test_the_table_of_derived_options_is_that_of_the_configs() -> None:
    # runs_dir is in hydra's own section, which no run stores
    texts = [path.read_text().replace("${runs_dir}", "") for path in CONFIGS.rglob("*.yaml")]
    named = set(re.findall(r"\$\{(\w+)[.}]", "\n".join(texts)))
    assert named - {"size"} == set(DERIVED)
    leaves = [leaf for leaves in DERIVED.values() for leaf in leaves]
    found = re.findall(r"(\w+): \$\{(?!size)", (CONFIGS / "loss" / "dreamerv3.yaml").read_text())
    assert sorted(found) == sorted(leaf.rpartition(".")[2] for leaf in leaves)
    assert len(re.findall(r"\$\{(?!size)", "\n".join(texts))) == len(leaves)


def test_what_follows_a_discount_is_changed_with_it(stored: Path) -> None:
    cfg, _ = resumed_config(stored, stored, ["discount=0.5", "discount_lambda=0.7"])
    assert cfg.discount == cfg.loss.discount.gamma == 0.5
    assert cfg.discount_lambda == cfg.loss.returns.lmbda == cfg.loss.critic.lmbda == 0.7


def test_a_derived_value_of_its_own_is_kept(stored: Path) -> None:
    cfg, _ = resumed_config(stored, stored, ["discount_lambda=0.7", "loss.critic.lmbda=0.2"])
    assert (cfg.loss.returns.lmbda, cfg.loss.critic.lmbda) == (0.7, 0.2)
    text = (stored / "config.yaml").read_text().replace("gamma: 0.9", "gamma: 0.8")
    (stored / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"discount has no effect.*loss.discount.gamma"):
        resumed_config(stored, stored, ["discount=0.5"])


@pytest.mark.parametrize(
    "typed", ["size.deter=24", "size.units=99", "seed=5", "name=other", "init_from=shipped"]
)
def test_what_a_resume_cannot_change_is_refused_by_name(typed: str, stored: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{typed} cannot be changed on a resume: \w"):
        resumed_config(stored, stored, [typed])


def test_a_resume_refuses_an_added_option_that_nothing_reads(stored: Path) -> None:
    with pytest.raises(ValueError, match=r"'a.b' is not in the run's configuration .* there\.$"):
        resumed_config(stored, stored, ["+a.b=1"])


def test_typing_the_value_that_is_stored_changes_nothing(stored: Path) -> None:
    cfg, _ = resumed_config(stored, stored, ["size.deter=16", "seed=0", "discount=0.9"])
    assert (cfg.size.deter, cfg.loss.discount.gamma) == (16, 0.9)
