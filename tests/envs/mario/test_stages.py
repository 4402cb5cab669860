"""Several stages in one env: which is played, and how it is shown."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.nn.functional import one_hot

from mario_dreamer.envs.mario import game as game_module
from mario_dreamer.envs.mario.emulator import make_emulator
from mario_dreamer.envs.mario.game import Game
from mario_dreamer.envs.mario.make import make_mario_env

STAGES = ["1-1", "1-2", "4-1"]


class FakeEmulator:
    """A stage whose episodes last so many frames."""

    def __init__(self, stage: str) -> None:
        self.length, self.frame = {"1-1": 5, "1-2": 40, "4-1": 11}[stage], 0

    def reset(self) -> tuple[None, dict]:
        self.frame = 0
        return None, {}

    def step(self, byte: int) -> tuple[None, float, bool, bool, dict]:
        self.frame += 1
        return None, 0.0, self.frame == self.length, False, {}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game_module, "make_emulator", FakeEmulator)


def play_episodes(game: Game, episodes: int) -> list[int]:
    """The stage of each episode."""
    stages = []
    for _ in range(episodes):
        game.begin()
        stages.append(game.stage)
        while not game.over:
            game.press(0)
    return stages


@pytest.mark.usefixtures("fake")
def test_balanced_stages_differ_by_at_most_one_episode() -> None:
    game = Game(STAGES, "balanced", first=1)
    assert play_episodes(game, 1) == [1]
    for _ in range(60):
        play_episodes(game, 1)
        assert max(game.played) - min(game.played) <= 40 and min(game.played) >= 0
    assert min(game.played) > 100


@pytest.mark.usefixtures("fake")
def test_stages_in_turn_and_at_random() -> None:
    assert play_episodes(Game(STAGES, "turn", first=2), 7) == [2, 0, 1, 2, 0, 1, 2]
    one, again, other = (play_episodes(Game(STAGES, "random", seed), 90) for seed in (3, 3, 4))
    assert one == again != other
    assert all(15 < count < 45 for count in Counter(one).values()) and len(Counter(one)) == 3


@pytest.mark.usefixtures("fake")
def test_an_episode_without_a_frame_is_opened_again() -> None:
    game = Game(STAGES, "turn")
    for _ in range(3):
        game.begin()
        assert (game.stage, game.episode) == (0, 0)
    seed = game.episode_seed
    game.press(0)
    game.begin()
    assert (game.stage, game.episode) == (1, 1) and game.episode_seed != seed
    game.set_seed(0)
    game.begin()
    assert (game.stage, game.episode_seed) == (0, seed)


@pytest.mark.rom
def test_every_stage_of_a_list_is_played_and_shown() -> None:
    env = make_mario_env(num_envs=2, stage=STAGES, max_steps=2, show_stage=True, threads=1)
    assert env.observation_spec["vector"].shape == (2, 3)
    played = env.rollout(7, break_when_any_done=False)
    for env_played in played:
        ends = env_played["next"][env_played["next", "done"].squeeze(-1)]
        numbers = torch.cat([ends["world"], ends["stage"]], -1).tolist()
        names = [f"{world}-{stage}" for world, stage in numbers]
        assert set(names) == set(STAGES)
        assert [STAGES[i] for i in ends["stage_index"].flatten().tolist()] == names
    shown = one_hot(played["stage_index"].squeeze(-1), 3).float()
    assert torch.equal(played["vector"], shown)


@pytest.mark.rom
def test_a_stage_that_loads_wrong_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from gym_super_mario_bros import SuperMarioBrosEnv

    reset = SuperMarioBrosEnv.reset
    wrong = {"world": 1, "stage": 1}
    monkeypatch.setattr(
        SuperMarioBrosEnv, "reset", lambda self, **_: (reset(self)[0], reset(self)[1] | wrong)
    )
    with pytest.raises(ValueError, match="env.stage=2-3: the emulator started stage 1-1") as error:
        make_emulator("2-3")
    assert "\n" not in str(error.value)


@pytest.mark.rom
def test_grayscale_is_one_channel_and_the_mean_brightness() -> None:
    gray = make_mario_env(grayscale=True, max_pool=False)
    assert gray.observation_spec["pixels"].shape == (1, 1, 64, 64)
    color = make_mario_env(max_pool=False).reset()["pixels"].float()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    expected = (color * weights).sum(1, keepdim=True)
    assert torch.allclose(gray.reset()["pixels"].float(), expected, atol=1.0)


@pytest.mark.rom
def test_the_buttons_really_pressed_replay_to_the_same_place() -> None:
    from mario_dreamer.envs.mario.recordings import play_buttons

    for unit in ("frame", "step"):
        env = make_mario_env(num_envs=1, sticky=0.4, sticky_unit=unit, random_noops=20, seed=1)
        torch.manual_seed(0)
        last = env.rollout(15)[0, -1]["next"]
        found = play_buttons("1-1", env.base_env.games[0].pressed, 1).stats
        assert found["x_pos"] == last["x_pos"] and found["time"] == last["time"]
