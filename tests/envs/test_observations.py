"""Observations of every kind become uint8 images and float vectors, or are refused."""

from __future__ import annotations

from typing import Any

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.envs import GymEnv, SerialEnv, check_env_specs

from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.envs.image_view import ImageView
from mario_dreamer.envs.torchrl import with_agent_interface

BYTES = {"low": 0, "high": 255, "dtype": np.uint8}
TWO = spaces.Dict(
    image=spaces.Box(shape=(64, 64, 3), **BYTES), state=spaces.Box(-1, 1, (2,), np.float32)
)


def make(space: spaces.Space, num_envs: int = 1, first: Any = None, **choices: Any):
    """Make an env that observes `space`."""
    options = {"space": space, "first": first}
    return make_gym_env("DreamerTest/Sampled-v0", num_envs, options=options, **choices)


def shapes(env: Any) -> dict[str, tuple[int, ...]]:
    """What is observed, without N."""
    found = env.rollout(2)
    return {key: tuple(found[key].shape[2:]) for key in found.keys() if key[:6] in PREFIXES}


PREFIXES = ("pixels", "vector")


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((84, 84), 1), ((84, 84, 4), 4), ((3, 84, 84), 3), ((84, 84, 1), 1), ((4, 84, 84), 4),
     ((48, 96, 3), 3), ((4, 48, 48, 3), 12), ((4, 3, 48, 48), 12)],
)  # fmt: skip
def test_images_of_any_layout_are_read(shape: tuple[int, ...], channels: int) -> None:
    env = make(spaces.Box(shape=shape, **BYTES), num_envs=2)
    check_env_specs(env)
    assert shapes(env) == {"pixels": (channels, 64, 64)}
    assert env.rollout(2)["pixels"].dtype == torch.uint8


IMAGE, GREY = {"pixels": (3, 64, 64)}, {"pixels": (1, 64, 64)}


@pytest.mark.parametrize(
    ("space", "choices", "found"),
    [(TWO, {}, IMAGE | {"vector": (2,)}),
     (TWO, {"pixels": False}, {"vector": (2,)}),
     (TWO, {"observations": ["sta*"]}, {"vector": (2,)}),
     (spaces.Box(0, 1, (84, 84), np.float32), {}, GREY),
     (spaces.Box(-1, 1, (84, 84), np.float32), {}, GREY),
     (spaces.Box(-9, 9, (20, 20), np.float32), {}, {"vector": (400,)}),
     (spaces.Box(0, 65535, (84, 84), np.uint16), {}, GREY),
     (spaces.Box(shape=(40, 72, 3), **BYTES), {"grayscale": True}, GREY),
     (spaces.MultiBinary(5), {}, {"vector": (5,)}),
     (spaces.MultiDiscrete([2, 3]), {}, {"vector": (5,)}),
     (spaces.Discrete(7, start=3), {}, {"vector": (7,)}),
     (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (3,))]), {},
      {"vector_0": (2,), "vector_1": (3,)})],
)  # fmt: skip
def test_every_kind_of_observation_is_learned_from(space, choices, found) -> None:
    assert shapes(make(space, **choices)) == found


@pytest.mark.parametrize(
    ("low", "high", "dtype", "value"),
    [(0, 1, np.float32, 0.9), (-1, 1, np.float64, 0.8), (0, 65535, np.uint16, 58982),
     (0, 10, np.uint8, 9)],
)  # fmt: skip
def test_values_are_scaled_by_their_declared_range(
    low: float, high: float, dtype: type, value: float
) -> None:
    first = np.full((32, 32, 3), value, dtype)
    env = make(spaces.Box(low, high, (32, 32, 3), dtype), first=first, image_size=32)
    assert env.reset()["pixels"].unique().tolist() == [230]  # 0.9 of 255


def test_several_images_and_vectors_keep_their_names() -> None:
    image = spaces.Box(shape=(16, 16, 3), **BYTES)
    pose = spaces.Dict(arm=spaces.Box(-9, 9, (2, 2)), on=spaces.MultiBinary((2, 2)))
    env = make(spaces.Dict(left=image, right=image, pose=pose), num_envs=2, image_size=16)
    check_env_specs(env)
    assert shapes(env) == {
        "pixels_left": (3, 16, 16), "pixels_right": (3, 16, 16),
        "vector_pose_arm": (4,), "vector_pose_on": (4,),
    }  # fmt: skip


def test_discrete_observations_are_one_hot() -> None:
    env = make(spaces.Dict(a=spaces.Discrete(4, start=2)), first={"a": 3})
    assert env.reset()["vector"].tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_sides_are_padded_where_no_size_is_asked_for() -> None:
    first = np.full((20, 33, 1), 200, np.uint8)
    env = make(spaces.Box(shape=(20, 33, 1), **BYTES), first=first, image_size=None)
    pixels = env.reset()["pixels"][0]
    assert pixels.shape == (1, 32, 48)
    assert (pixels[:, :20, :33] == 200).all() and pixels.sum() == 200 * 20 * 33
    assert shapes(make(spaces.Box(shape=(20, 33, 3), **BYTES), image_size=[16, 32])) == {
        "pixels": (3, 16, 32)
    }


def test_a_pixel_stays_where_it_is_in_every_layout() -> None:
    image = torch.randint(256, (2, 16, 32, 3), dtype=torch.uint8)
    wanted = image.permute(0, 3, 1, 2)
    read = {layout: ImageView(layout, shape, 0, 255) for layout, shape in
            {"HWC": (16, 32, 3), "CHW": (3, 16, 32), "HW": (16, 32)}.items()}  # fmt: skip
    assert torch.equal(read["HWC"](image), wanted)
    assert torch.equal(read["CHW"](wanted), wanted)
    assert torch.equal(read["HW"](image[..., 0]), wanted[:, :1])
    stacked = ImageView("KHWC", (2, 16, 32, 3), 0, 255)(image)
    assert torch.equal(stacked, wanted.reshape(6, 16, 32))
    assert torch.equal(ImageView("KCHW", (2, 3, 16, 32), 0, 255)(wanted), stacked)


@pytest.mark.parametrize(
    ("space", "said"),
    [(spaces.Dict(a=spaces.Discrete(2), text=spaces.Text(4)), r"'text' is Text.*env\.observations"),
     (spaces.Sequence(spaces.Discrete(2)), r"'observation' is Sequence.*your own env by.*ExcludeTr"),
     (spaces.Dict(action_mask=spaces.MultiBinary(3)), "it observes Dict.*It has to observe something"),
     (spaces.Dict({"a_b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(3))}), "'a_b'"),
     (spaces.Dict({"a.b": spaces.Discrete(2), "a_b": spaces.Discrete(3)}), "'vector_a_b'"),
     (spaces.Box(-np.inf, np.inf, (32, 32, 3)), r"'observation' \[32, 32, 3\].*no range")],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(space: spaces.Space, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(space)


@pytest.mark.parametrize(
    "first", [np.zeros((16, 16, 4), np.uint8), np.full((16, 16, 3), 0.5, np.float32)]
)
def test_a_frame_that_contradicts_its_space_is_refused(first: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"'observation' contradicts its space Box"):
        make(spaces.Box(shape=(16, 16, 3), **BYTES), first=first).reset()


@pytest.mark.parametrize("wanted", [["a"], "a", "a*"])
def test_text_may_be_left_out(wanted: str | list[str]) -> None:
    space = spaces.Dict({"above": spaces.Discrete(2), "a": spaces.Discrete(2), "text": spaces.Text(4)})
    found = {"vector": (2,)} if wanted != "a*" else {"vector_a": (2,), "vector_above": (2,)}
    assert shapes(make(space, observations=wanted)) == found


@pytest.mark.parametrize("size", [[16], [16, 16, 16]])
def test_an_image_size_has_two_sides(size: list[int]) -> None:
    with pytest.raises(ValueError, match=r"env.image_size=\[16.*expected a side, \[height, width\]"):
        make(spaces.Box(shape=(20, 30, 3), **BYTES), image_size=size)


def test_numbers_beyond_float32_stay_finite() -> None:
    first = np.array([1e300, -1e39, 3.0])
    seen = make(spaces.Box(-np.inf, np.inf, (3,), np.float64), first=first).reset()["vector"]
    assert seen.isfinite().all() and seen[0, 0] > 1e38 and seen[0, 2] == 3.0


def test_torchrls_own_pixels_do_not_hide_the_numbers_beside_them() -> None:
    pytest.importorskip("pygame", reason='pip install "gymnasium[classic-control]"')
    both = GymEnv("CartPole-v1", from_pixels=True, pixels_only=False)
    env = with_agent_interface(SerialEnv(1, lambda: both), image_size=16)
    assert shapes(env) == {"pixels": (3, 16, 16), "vector": (4,)}
