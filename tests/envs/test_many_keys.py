"""An agent with several images and vectors: its own encoder and decoder for each key."""

from __future__ import annotations

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny import Tiny, make_tiny, tiny_config

from mario_dreamer.config import build
from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.training.evaluation import play_episodes
from mario_dreamer.training.filming import film
from mario_dreamer.training.pictures import open_loop

WITHOUT = ["env.image_size", "env.length", "env"]


class ManyKeys:
    """A stand-in for `env._target_`: two images and two vectors."""

    def __new__(cls, num_envs: int = 1, seed: int = 0):
        depth = spaces.Box(0, 1, (16, 16), np.float32)
        front = spaces.Box(0, 255, (16, 32, 3), np.uint8)
        parts = {"depth": depth, "front": front, "arm": spaces.Box(-9, 9, (3,)),
                 "mode": spaces.Discrete(4)}  # fmt: skip
        options = {"space": spaces.Dict(parts), "length": 4}
        return make_gym_env("DreamerTest/Sampled-v0", num_envs, seed, image_size=None,
                            options=options)  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    """A tiny agent that reads all four, and what it has played."""
    parts = ["encoders={vector_arm:{units:4}}", "decoders={pixels_*:{depth:3}}"]
    target = f"env._target_={__name__}.ManyKeys"
    return make_tiny("env=own", target, *parts, without=WITHOUT).fill(12)


def test_all_keys_are_encoded_drawn_and_learned(tiny: Tiny) -> None:
    encoders = tiny.agent.world_model.encoder.encoders
    assert list(encoders) == ["pixels_depth", "pixels_front", "vector_arm", "vector_mode"]
    assert encoders["vector_arm"].embed_dim == 4 and encoders["vector_mode"].embed_dim == 8
    records = tiny.replay.sample()
    assert records["pixels_front"].shape[2:] == (3, 16, 32)
    assert records["pixels_depth"].shape[2:] == (1, 16, 16)
    model = tiny.agent.world_model
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert torch.isfinite(tiny.learner.update(records)["total"])
    parts = ("encoder.", "decoders.")
    same = [name for name, value in model.named_parameters()
            if name.startswith(parts) and torch.equal(value, before[name])]  # fmt: skip
    assert same == []


def test_the_first_image_is_filmed_and_foreseen_in_colour(tiny: Tiny) -> None:
    episode = play_episodes(tiny.policy, tiny.env, 1, film=film)[0]
    assert episode.frames.shape == (4, 3, 16, 16) and episode.frames.dtype == torch.uint8
    assert torch.equal(episode.frames[:, 0], episode.frames[:, 2])
    truth, prediction, _ = open_loop(tiny.agent.world_model, tiny.replay, rows=2)
    assert truth.shape == prediction.shape == (2, 5, 3, 16, 16)


def test_a_pattern_with_a_target_replaces_the_encoder() -> None:
    cfg = tiny_config("encoders={vector_*:{_target_:x.Y,a:1},vector_arm:{units:1}}")
    assert dict(build.part_for(cfg, "encoder", "vector_arm")) == {"_target_": "x.Y", "a": 1}
    assert build.part_for(cfg, "encoder", "vector") == cfg.vector_encoder
    assert build.part_for(cfg, "decoder", "pixels_left") == cfg.decoder


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2]), (6, [3, 4, 5]),
                            (2, [1, 1, 1])]
)  # fmt: skip
def test_any_number_of_channels_is_shown_in_colour(channels: int, shown: list[int]) -> None:
    image = torch.arange(channels).view(1, channels, 1, 1).expand(2, channels, 3, 4)
    assert to_rgb(image).shape == (2, 3, 3, 4)
    assert to_rgb(image)[0, :, 0, 0].tolist() == shown
