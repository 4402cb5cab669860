"""Gymnasium envs by id: numbers, images, actions, ends, seeds and errors."""

from __future__ import annotations

from typing import Any

import gym_examples
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torchrl.envs import SerialEnv, check_env_specs

from mario_dreamer.config.actions import describe_actions
from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.gymnasium import make_gym_env, plain_env
from mario_dreamer.envs.torchrl import describe_observations
from mario_dreamer.training.evaluation import play_episodes
from mario_dreamer.training.filming import film


class Lamp(gymnasium.Env):
    """Shows its own step count as brightness; ends after 5 steps by its rules."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = spaces.Discrete(2)

    def __init__(self, picture: bool = True, render_mode: str | None = None) -> None:
        self.render_mode, self.picture = render_mode, picture
        image = spaces.Box(0, 255, (20, 30, 3), np.uint8)
        self.observation_space = image if picture else spaces.Box(0, 9, (1,), np.float32)

    def _see(self) -> np.ndarray:
        return self.render() if self.picture else np.array([self.t], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action: int):
        self.t += 1
        return self._see(), float(action), self.t == 5, False, {}

    def render(self) -> np.ndarray:
        return np.full((20, 30, 3), 10 * self.t, np.uint8)


gymnasium.register("DreamerTest/Lamp-v0", Lamp, max_episode_steps=100)
gymnasium.register("DreamerTest/Dial-v0", Lamp, kwargs={"picture": False})


def test_cartpole_is_a_vector_of_four() -> None:
    env = make_gym_env("CartPole-v1", num_envs=3, seed=0, pixels=False)
    check_env_specs(env)
    played = env.rollout(60, break_when_any_done=False)
    assert played["vector"].shape == (3, 60, 4) and played["vector"].dtype == torch.float32
    ends = played["next", "done"].squeeze(-1)
    assert ends.any() and torch.equal(played["is_init"][:, 1:, 0], ends[:, :-1])


def test_the_numbers_of_a_vector_may_be_scaled() -> None:
    plain = make_gym_env("CartPole-v1", 2, 7, pixels=False)
    scaled = make_gym_env("CartPole-v1", 2, 7, pixels=False, scale=[1, 2, 10, -1])
    check_env_specs(scaled)
    right = torch.tensor([[0, 1], [0, 1]])
    for env in (plain, scaled):
        env.set_seed(7)
    seen = [env.step(env.reset().set("action", right)) for env in (plain, scaled)]
    factors = torch.tensor([1.0, 2.0, 10.0, -1.0])
    assert torch.allclose(seen[0]["vector"] * factors, seen[1]["vector"])
    assert torch.allclose(seen[0]["next", "vector"] * factors, seen[1]["next", "vector"])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"pixels": False, "scale": [1, 2]}, "4 finite"),
     ({"pixels": False, "scale": [1, 0, 1, 1]}, "4 finite"),
     ({"from_render": True, "image_size": 16, "scale": [1]}, "an image has no scale")],
)  # fmt: skip
def test_a_scale_that_does_not_fit_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_gym_env("CartPole-v1", **options)


def test_cartpole_envs_have_seeds_of_their_own() -> None:
    first, again = (make_gym_env("CartPole-v1", 2, 7, pixels=False).reset()["vector"] for _ in "ab")
    assert torch.equal(first, again) and not torch.equal(first[0], first[1])
    env = make_gym_env("CartPole-v1", 2, 8, pixels=False)
    env.set_seed(7)
    assert torch.equal(env.reset()["vector"], first)


def test_a_second_episode_is_not_the_first_again() -> None:
    env = make_gym_env("CartPole-v1", 1, 0, pixels=False)
    assert not torch.equal(env.reset()["vector"], env.reset()["vector"])


@pytest.mark.parametrize(
    ("env_id", "options"),
    [("DreamerTest/Lamp-v0", {}), ("DreamerTest/Dial-v0", {"from_render": True}),
     ("DreamerTest/Dial-v0", {"pixels": True})],
)  # fmt: skip
def test_a_picture_is_observed_or_rendered(env_id: str, options: dict[str, Any]) -> None:
    env = make_gym_env(env_id, num_envs=2, image_size=16, **options)
    check_env_specs(env)
    played = env.rollout(9)
    assert played["pixels"].shape == (2, 5, 3, 16, 16)
    assert played["next", "pixels"][0, :, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert played["next", "terminated"][0, -1] and not played["next", "truncated"][0, -1]


def test_the_run_says_whether_it_observes_or_renders() -> None:
    seen = make_gym_env("DreamerTest/Lamp-v0", image_size=16)
    drawn = make_gym_env("DreamerTest/Dial-v0", image_size=16, from_render=True)
    numbers = make_gym_env("DreamerTest/Dial-v0")
    lines = [describe_observations(env) for env in (seen, drawn, numbers)]
    assert lines == [
        "observations: pixels [3, 16, 16] from observation [20, 30, 3] uint8",
        "observations: pixels [3, 16, 16] from render() [20, 30, 3] uint8",
        "observations: vector [1] from observation [1] float32",
    ]


def test_grayscale_gives_one_channel() -> None:
    env = make_gym_env("DreamerTest/Lamp-v0", num_envs=1, image_size=16, grayscale=True)
    assert env.rollout(3)["next", "pixels"][0, -1].unique().tolist() == [30]
    assert env.observation_spec["pixels"].shape == (1, 1, 16, 16)


def test_action_repeat_sums_rewards_and_stops_at_the_end() -> None:
    env = make_gym_env("DreamerTest/Lamp-v0", num_envs=1, image_size=16, action_repeat=3)
    right = torch.tensor([[0, 1]])
    played = env.rollout(9, lambda tensordict: tensordict.set("action", right))[0]
    assert played["next", "reward"].flatten().tolist() == [3.0, 2.0]


def test_max_steps_truncate() -> None:
    last = make_gym_env("DreamerTest/Lamp-v0", 1, image_size=16, max_steps=2).rollout(9)[0, -1]
    assert last["next", "truncated"] and not last["next", "terminated"]
    own = make_gym_env("DreamerTest/Lamp-v0", 1, image_size=16, options={"max_episode_steps": 3})
    assert own.rollout(9)[0, -1]["next", "truncated"] and own.rollout(9).shape == (1, 3)


def test_discrete_actions_may_start_anywhere() -> None:
    options = {"space": spaces.Box(-1, 1, (2,)), "actions": spaces.Discrete(3, start=5)}
    env = make_gym_env("DreamerTest/Sampled-v0", options=options)
    step = env.step(env.reset().set("action", torch.tensor([[0, 0, 1]])))
    assert step["next", "reward"].item() == 7.0


ACTIONS = [
    spaces.Discrete(3, start=5), spaces.MultiDiscrete([3, 2], start=[5, 7]),
    spaces.MultiDiscrete([4]), spaces.MultiDiscrete([[3, 2], [2, 2]]), spaces.MultiBinary(3),
    spaces.MultiBinary(1), spaces.MultiBinary((2, 3)),
    spaces.Box(-2, 2, ()), spaces.Box(-2, 2, (2, 3)),
    spaces.Box(-0.1, 0.1, (2,), np.float64), spaces.Box(0, 255, (2,), np.uint8),
    spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0, np.inf, (2,)), spaces.Box(-np.inf, 5, (2,)),
    spaces.Box(np.float32([-2, -np.inf]), np.float32([2, 5])), spaces.Box(1, 1, (1,)),
]  # fmt: skip


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_an_env_is_given_actions_of_its_own_space(space: spaces.Space) -> None:
    own = gym_examples.SampledEnv(spaces.Box(-1, 1, (2,)), space)
    env = with_agent_actions(SerialEnv(1, lambda: plain_env(own)))
    describe_actions(env.action_spec)
    env.rollout(5)
    if env.action_spec.dtype.is_floating_point:
        for number in (-3.0, -1.0, 1.0, 3.0):
            env.step(env.reset().set("action", torch.full(env.action_spec.shape, number)))
    assert len(own.taken) >= 5 and all(space.contains(action) for action in own.taken)


def test_a_dict_of_actions_is_refused_in_one_line() -> None:
    options = {"space": spaces.Discrete(2), "actions": spaces.Dict(a=spaces.Discrete(2))}
    with pytest.raises(ValueError, match=r"its actions are Dict.*expected Discrete"):
        make_gym_env("DreamerTest/Sampled-v0", options=options)


@pytest.mark.parametrize("sizes", [[2, 3], [3, 3]])
def test_several_discrete_actions_are_one_row_of_one_hots(sizes: list[int]) -> None:
    options = {"space": spaces.Box(-1, 1, (2,)), "actions": spaces.MultiDiscrete(sizes)}
    env = make_gym_env("DreamerTest/Sampled-v0", options=options)
    hot = torch.zeros(1, sum(sizes), dtype=torch.int64)
    hot[0, 1] = hot[0, -1] = 1
    step = env.step(env.reset().set("action", hot))
    assert step["next", "reward"].item() == 1 + sizes[1] - 1


def test_a_render_mode_of_the_user_is_kept() -> None:
    env = make_gym_env("DreamerTest/Dial-v0", options={"render_mode": "rgb_array"})
    assert env.rollout(2)["vector"].shape == (1, 2, 1)
    env = make_gym_env("DreamerTest/Dial-v0", from_render=True, image_size=16,
                       options={"render_mode": "rgb_array"})  # fmt: skip
    assert env.rollout(2)["pixels"].shape == (1, 2, 3, 16, 16)


@pytest.mark.slow
def test_each_env_may_have_a_process_of_its_own() -> None:
    env = make_gym_env("CartPole-v1", num_envs=2, parallel=True)
    try:
        assert env.rollout(3)["vector"].shape == (2, 3, 4)
        episodes = play_episodes(env.rand_action, env, 2, film=film)
        assert all(len(played.frames) == played.stats["length"] for played in episodes)
    finally:
        env.close()


def test_an_unknown_id_is_refused_with_a_cure() -> None:
    with pytest.raises(ValueError, match="Nowhere.*Import the package"):
        make_gym_env("Nowhere-v0")


@pytest.mark.rom
def test_mario_is_a_gymnasium_env() -> None:
    pytest.importorskip("gym_super_mario_bros")
    env = make_gym_env("gym_super_mario_bros:SuperMarioBros-1-1-v0", num_envs=1, action_repeat=4)
    assert env.action_spec.shape == (1, 256)
    assert env.rollout(3)["next", "pixels"].float().std() > 10


def test_a_gymnasium_env_with_images_plays_through_our_keys() -> None:
    pytest.importorskip("pygame", reason='pip install "gymnasium[classic-control]"')
    env = make_gym_env("CartPole-v1", num_envs=2, seed=0, pixels=True, image_size=32)
    played = env.rollout(4, break_when_any_done=False)
    assert played["pixels"].shape == (2, 4, 3, 32, 32) and played["pixels"].dtype == torch.uint8
    assert played["pixels"].float().std() > 1  # a cart on white ground, not an empty picture
    assert not torch.equal(played["pixels"][:, 0], played["pixels"][:, 3])
