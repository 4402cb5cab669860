"""Every choice of every slot is built as a run builds it, and learns one update."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tiny import make_tiny, tiny_config

from mario_dreamer.config import build, compose, limits
from mario_dreamer.config.command_line import checked_words

CONFIGS = Path(__file__).parents[2] / "configs"

CHOICES = {
    "nature": [
        "encoder=cnn", "decoder=cnn", "rssm/sequence_model=block_gru", "head@reward=mse",
        "head@critic=mse", "replay=memmap", "replay.capacity=300", "env=delayed", "env.delay=3",
        "~env.length",
    ],
    "paper v1": [
        "rssm=rssm_v1", "loss=seed_v1", "optimizer=adam", "collector=single",
        "collector.num_envs=1", "env=toy", "~env.length",
    ],
    "one adam": [
        "optimizer=adam_agc", "replay=uniform", "replay.latents=false", "env=memory",
        "env.delay=3", "~env.length",
    ],
    "heads in symlog space": ["head@reward=twohot_symlog", "head@critic=twohot_symlog"],
    "a vector": ["env=cartpole", "~env.image_size", "~env.length", "loss.returns.normalize=false"],
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_is_built_plays_and_learns(choice: str) -> None:
    # Envs without a length or a picture do not have the options for them.
    without = [word[1:] for word in CHOICES[choice] if word.startswith("~")]
    typed = [word for word in CHOICES[choice] if not word.startswith("~")]
    tiny = make_tiny(*typed, without=without).fill()
    metrics = tiny.learner.update(tiny.replay.sample())
    assert math.isfinite(float(metrics["total"]))


def plain(part: object) -> object:
    """A configuration without what refers to other places."""
    if isinstance(part, dict):
        return {k: plain(v) for k, v in part.items() if not (isinstance(v, str) and "${" in v)}
    return part


@pytest.mark.parametrize("group", ["collector", "env", "loss", "optimizer", "replay", "size"])
def test_every_choice_of_a_group_keeps_the_rules_for_numbers(group: str) -> None:
    for file in (CONFIGS / group).glob("*.yaml"):
        part = plain(OmegaConf.to_container(OmegaConf.load(file)))
        limits.check_numbers({group: {k: v for k, v in part.items() if k != "defaults"}})


@pytest.mark.parametrize("option", ["encoder.mults", "rssm.stoch_shape", "vector_decoder.symlog"])
def test_a_word_for_a_list_or_a_switch_of_a_network_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be (a list of numbers|two numbers|true or false)"):
        limits.check_numbers({option: "four"})


def test_a_run_has_one_discount_and_one_lambda() -> None:
    learner = make_tiny("discount=0.9", "discount_lambda=0.5").learner
    for part in (learner.returns, learner.world_model_loss, learner.critic_loss):
        assert part.discount.gamma == 0.9
    assert learner.returns.lmbda == learner.critic_loss.lmbda == 0.5
    assert learner.imagination.horizon == 3


def test_the_seeds_experiment_has_the_seeds_numbers() -> None:
    cfg = compose.compose_default(["experiment=seed_v1"])
    assert cfg.optimizer.lr == {"world_model": 1e-4, "actor": 3e-5, "critic": 3e-5}
    assert cfg.train_ratio / (cfg.batch_size * cfg.batch_length) == 1.0
    assert (cfg.steps, cfg.prefill, cfg.pretrain) == (100_000, 2_500, 100)
    assert (cfg.imag_horizon, cfg.discount, cfg.discount_lambda) == (15, 0.997, 0.95)
    assert (cfg.size.deter, cfg.size.stoch, cfg.size.classes) == (512, 32, 32)
    assert (cfg.loss.world_model.beta_dyn, cfg.loss.world_model.beta_rep) == (0.5, 0.1)


def test_an_env_without_known_observations_is_refused() -> None:
    from torchrl.envs import GymEnv, RenameTransform, TransformedEnv

    env = TransformedEnv(GymEnv("CartPole-v1"), RenameTransform(["observation"], ["sensors"]))
    with pytest.raises(ValueError, match="neither 'pixels' nor 'vector'.*sensors"):
        build.make_agent(tiny_config(), env)


def test_no_gradient_flows_while_a_collector_plays() -> None:
    tiny = make_tiny()
    played = tiny.collect(8)
    assert not any(value.requires_grad for value in played.values(True, True))
    assert torch.is_grad_enabled()


def test_files_of_a_folder_of_your_own_are_choices_too(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "tiny.yaml").write_text("_target_: mine.TinyEncoder\ndepth: 4\n")
    words = ["encoder=tiny", f"hydra.searchpath=[file://{tmp_path}]", "encoder.depth=8", "seed=1"]
    assert checked_words("train", words) == words
    with pytest.raises(ValueError, match=r"encoder\.dept"):
        checked_words("train", [*words, "encoder.dept=8"])
