from __future__ import annotations

import pytest
import torch
from echo_env import make_echo_env
from tensordict import TensorDictBase
from tiny import make_tiny
from torch import Tensor
from torchrl.data import Unbounded

from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.base import BatchedEnv, EnvFailed, pixel_spec
from mario_dreamer.envs.torchrl import with_agent_interface
from mario_dreamer.training.evaluation import (
    Episode,
    episode_ends,
    height_of,
    play_episodes,
    summarise,
    wilson_interval,
)
from mario_dreamer.training.filming import film, film_first


def test_the_stats_of_an_episode_are_those_of_its_last_step() -> None:
    tiny = make_tiny("env.length=[3,5]", "env.ending=truncated")
    ends = episode_ends(tiny.collect(8))
    # env 0 ends at steps 3 and 6, env 1 at step 5: in the order of time
    assert [stats["length"] for stats in ends] == [3, 5, 3]
    assert [stats["return"] for stats in ends] == [60.0, 150.0, 60.0]
    assert all(stats["terminated"] == 0.0 for stats in ends)


def test_short_episodes_are_not_preferred() -> None:
    tiny = make_tiny("env.length=[2,7]")
    episodes = play_episodes(tiny.policy, tiny.env, 4)
    assert [episode.stats["length"] for episode in episodes] == [2, 2, 7, 7]
    assert [len(episode.actions) for episode in episodes] == [2, 2, 7, 7]


def test_an_uneven_number_is_cut_from_a_fixed_grid() -> None:
    tiny = make_tiny("env.length=[2,7]")
    episodes = play_episodes(tiny.policy, tiny.env, 3)
    assert [episode.stats["length"] for episode in episodes] == [2, 2, 7]
    assert len({episode.start for episode in episodes}) == 1, "this env always begins the same way"


def test_the_film_shows_what_was_acted_on() -> None:
    tiny = make_tiny("env.length=[2,7]")
    episodes = play_episodes(tiny.policy, tiny.env, 2, film=film)
    shades = [episode.frames[:, 0, 5, 5].tolist() for episode in episodes]
    assert shades == [[0, 1], [0, 1, 2, 3, 4, 5, 6]]
    assert episodes[0].frames.dtype == torch.uint8
    marks = episodes[1].frames[:, 0, 0, 0].tolist()  # 1 + the action before, 0 at the start
    assert marks == [0, *(1 + action for action in episodes[1].actions[:-1])]


def test_a_film_of_the_first_env_has_no_frames_of_others() -> None:
    tiny = make_tiny("env.length=[2,7]")
    both = play_episodes(tiny.policy, tiny.env, 2, film=film)
    first, second = play_episodes(tiny.policy, tiny.env, 2, film=film_first)
    assert torch.equal(first.frames[:, 0, 5, 5], both[0].frames[:, 0, 5, 5])
    assert second.frames.numel() == 0 and len(second.actions) == 7


def test_what_takes_too_long_is_given_up() -> None:
    tiny = make_tiny("env.length=[2,7]")
    episodes = play_episodes(tiny.policy, tiny.env, 2, max_steps=5)
    assert [episode.stats["length"] for episode in episodes] == [2]


def test_the_limit_is_one_of_each_episode_and_not_of_all_that_an_env_plays() -> None:
    tiny = make_tiny("env.length=[2,7]")
    episodes = play_episodes(tiny.policy, tiny.env, 6, max_steps=7)  # three in each env
    assert [episode.stats["length"] for episode in episodes] == [2, 2, 2, 7, 7, 7]


def test_no_episodes_cannot_be_played() -> None:
    tiny = make_tiny()
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        play_episodes(tiny.policy, tiny.env, 0)


def test_an_env_that_breaks_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny()

    def broken(*_: object) -> None:
        raise OSError("the cartridge fell out")

    monkeypatch.setattr(tiny.env, "step", broken)
    message = "environment failed: OSError: the cartridge fell out"
    with pytest.raises(EnvFailed, match=message):
        play_episodes(tiny.policy, tiny.env, 1)


def test_the_transitions_asked_for_are_kept() -> None:
    tiny = make_tiny("env.length=[2,7]")
    keep = ["action", "vector", ("next", "reward")]
    short, long = play_episodes(tiny.policy, tiny.env, 2, keep=keep)
    assert short.steps is not None and long.steps is not None
    assert short.steps["next", "reward"].flatten().tolist() == [10, 20]
    assert long.steps["next", "reward"].flatten().tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert long.steps["action"].argmax(-1).tolist() == long.actions
    assert "vector" not in long.steps, "what the env does not have is passed over"
    assert play_episodes(tiny.policy, tiny.env, 1)[0].steps is None


class Runner(torch.nn.Module):
    """A policy that runs right, and jumps by a fixed clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.clock += 1
        action = torch.zeros(*tensordict.batch_size, 7, dtype=torch.int64)
        action[..., 4 if self.clock % 11 < 7 else 1] = 1
        return tensordict.set("action", action)


@pytest.mark.rom
def test_a_button_log_leads_to_the_same_end_in_the_raw_emulator() -> None:
    from mario_dreamer.envs.mario import recordings
    from mario_dreamer.envs.mario.make import make_mario_env

    env = make_mario_env(num_envs=2, seed=3, random_noops=30, sticky=0.25, max_steps=15, threads=1)
    episodes = play_episodes(Runner(), env, 4)
    assert len({len(episode.buttons) for episode in episodes}) > 1, "the no-ops differ"
    for episode in episodes[1::2]:  # one of each env, neither the first after the start
        found = recordings.play_buttons("1-1", episode.buttons, 1).stats
        shown = {name: int(episode.stats[name]) for name in ("x_pos", "x_max", "time", "score")}
        assert shown == {name: found[name] for name in shown}
        assert len(episode.buttons) == found["frames"] and episode.stats["y_pos"] > 0


def test_mario_in_a_pit_is_below_the_screen_and_not_at_its_top() -> None:
    # what the emulator says at the end of a fall into 1-1's first pit, and on the ground
    assert height_of({"y_pos": 253, "y_pixel": 2, "y_viewport": 2}) == 0.0
    assert height_of({"y_pos": 79, "y_viewport": 1}) == 79.0
    assert height_of({}) == 0.0


def test_greedy_and_sampled_play_differ() -> None:
    tiny = make_tiny("env.length=40")
    greedy = play_episodes(tiny.policy, tiny.env, 2, greedy=True)
    sampled = play_episodes(tiny.policy, tiny.env, 2)
    assert len(set(sampled[0].actions)) == 3
    assert len(set(greedy[0].actions)) <= len(set(sampled[0].actions))


class Lever(torch.nn.Module):
    """A policy that always takes action 2."""

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = torch.zeros(*tensordict.batch_size, 3, dtype=torch.int64)
        action[..., 2] = 1
        return tensordict.set("action", action)


def test_any_policy_that_writes_an_action_can_be_evaluated() -> None:
    from mario_dreamer.envs.toy.corridor import make_toy_env

    env = make_toy_env(num_envs=2, image_size=16, cells=4, max_steps=9)
    found = summarise(play_episodes(Lever(), env, 4))
    assert found["return"] == 1.0 and found["terminated"] == 1.0 and found["episodes"] == 4.0
    assert found["return_std"] == 0.0 and 2 <= found["length"] <= 3


class Fixed(torch.nn.Module):
    """A policy that always takes the same action."""

    def __init__(self, action: list[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.action = torch.tensor(action, dtype=dtype)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        return tensordict.set("action", self.action.expand(*tensordict.batch_size, -1))


@pytest.mark.parametrize(
    ("kind", "action", "listed"),
    [
        ("index", [0.0, 0.0, 1.0], 2), ("masked", [1.0, 0.0, 0.0], 0),
        ("indices", [0.0, 1.0, 0.0, 0.0, 1.0], [0, 1, 0, 0, 1]),
        ("binary", [0.0, 1.0, 0.0], [0, 1, 0]), ("binary", [0.0, 0.0, 0.0], [0, 0, 0]),
        ("bounded", [0.0, 1.0], [0.0, 1.0]), ("unbounded", [1.0, 0.0], [1.0, 0.0]),
    ],
)  # fmt: skip
def test_the_form_of_an_action_list_follows_the_spec(
    kind: str, action: list[float], listed: int | list[float]
) -> None:
    env = with_agent_actions(make_echo_env(kind))
    episode = play_episodes(Fixed(action, env.action_spec.dtype), env, 1)[0]
    assert episode.actions == [listed] * len(episode.actions) != []


def test_a_summary_knows_flags_and_their_interval() -> None:
    def episode(score: float, flag: float, x: float) -> Episode:
        return Episode({"return": score, "length": 3.0, "flag": flag, "x_max": x})

    found = summarise([episode(1.0, 1.0, 3161.0), episode(3.0, 0.0, 500.0)])
    assert found["return"] == 2.0 and found["return_std"] == 1.0
    assert found["flag_rate"] == 0.5 and found["x_max_best"] == 3161.0
    assert found["flag_low"] == pytest.approx(0.0945, abs=1e-3)
    assert found["flag_high"] == pytest.approx(0.9055, abs=1e-3)
    assert summarise([]) == {}


def test_the_wilson_interval_is_the_published_one() -> None:
    low, high = wilson_interval(9, 10)
    assert (low, high) == (pytest.approx(0.5958, abs=1e-3), pytest.approx(0.9821, abs=1e-3))
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


class OwnEnv(BatchedEnv):
    """Frames and one observation of a name that the game's statistics have, too."""

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width = name, width
        observations = {"pixels": pixel_spec(3, 16, 16), name: Unbounded(width)}
        super().__init__(2, 2, observations, max_steps=3)

    def _begin(self, mask: Tensor) -> None:
        pass

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ones(2), torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)

    def _observe(self) -> dict[str, Tensor]:
        frames = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
        return {"pixels": frames, self.name: torch.ones(2, self.width)}


@pytest.mark.parametrize(("name", "width"), [("score", 2), ("flag", 1)])
def test_an_own_env_may_show_what_is_called_like_a_statistic_of_the_game(
    name: str, width: int
) -> None:
    env = with_agent_actions(with_agent_interface(OwnEnv(name, width)))
    episodes = play_episodes(lambda td: td.set("action", env.action_spec.rand()), env, 2)
    found = summarise(episodes)
    assert found["length"] == 3 and "x_max_best" not in found
    assert found.get("flag_rate") == (1.0 if name == "flag" else None)
