"""What is shown is what happened: time, randomness, dreams and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mario_dreamer.config import compose
from mario_dreamer.training.checkpoint import CheckpointError
from mario_dreamer.viewer.agents import Agents, ViewedAgent
from mario_dreamer.viewer.simulation import Simulation


def choice(info: dict) -> int:
    """Index of the one-hot action shown."""
    return info["action"].index(1.0)


def taken(simulation: Simulation) -> list[int]:
    return [int(action.argmax()) for action in simulation.env.actions]


def ticks(simulation: Simulation, count: int) -> list[dict]:
    return [simulation.tick().info for _ in range(count)]


def test_the_first_frame_opens_an_episode_in_closed_loop(simulation: Simulation) -> None:
    frame = simulation.tick()
    assert frame.info["time"] == 0 and frame.info["episode"] == 0
    assert frame.info["open_loop"] is False and frame.info["kl"] is not None
    assert {name: tuple(p.shape) for name, p in frame.pictures.items()} == {
        "screen": (32, 32, 3), "observation": (32, 32, 3), "decoded": (32, 32, 3),
        "latent": (4, 4, 1), "foreseen": (32, 32, 3),
    }  # fmt: skip
    assert all(picture.dtype == torch.uint8 for picture in frame.pictures.values())


def test_the_action_shown_is_the_one_taken_next(simulation: Simulation) -> None:
    shown = ticks(simulation, 6)
    assert taken(simulation) == [choice(info) for info in shown[:5]]


def test_an_ended_episode_is_shown_and_then_a_new_one_begins(simulation: Simulation) -> None:
    infos = (simulation.tick().info for _ in range(60))
    assert any(info["over"] for info in infos)  # which stops at the first
    after = next(infos)
    assert after["time"] == 0 and after["episode"] == 1 and not after["over"]


def test_one_seed_shows_the_same_twice_whatever_others_do(agent: ViewedAgent) -> None:
    alone = Simulation(agent.inspector, agent.loaded, seed=5)
    expected = ticks(alone, 12)
    first, second = (Simulation(agent.inspector, agent.loaded, seed=seed) for seed in (5, 6))
    seen = []
    for _ in range(12):
        seen += ticks(first, 1)
        ticks(second, 1)
        torch.rand(3)
    assert seen == expected


def test_a_simulation_keeps_the_random_state_of_the_process(
    simulation: Simulation,
) -> None:
    before = torch.get_rng_state()
    ticks(simulation, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_restart_shows_the_same_episode_again(simulation: Simulation) -> None:
    expected = ticks(simulation, 10)
    simulation.restart(simulation.seed)
    assert ticks(simulation, 10) == expected


def test_in_open_loop_no_frame_is_read_while_the_env_goes_on(simulation: Simulation) -> None:
    simulation.tick()
    simulation.is_open_loop = True
    shut = simulation.tick().info
    assert shut["open_loop"] is True and shut["open_loop_steps"] == 1 and shut["kl"] is None
    assert shut["time"] == 1
    # The frame makes no difference to an open-loop state.
    saved = torch.get_rng_state()
    states = []
    one_hot = simulation.env.action_set.one_hot
    for action in (1, 2):
        torch.set_rng_state(saved)
        simulation.env.replay(3, [one_hot(action)])
        states.append(simulation.inspector.imagine(simulation._belief, one_hot(0)).deter)
    assert torch.equal(*states)
    simulation.env.replay(3, [one_hot(0)])
    simulation.is_open_loop = False
    opened = simulation.tick().info
    assert opened["open_loop"] is False and opened["open_loop_steps"] == 0


def test_greedy_takes_the_likeliest_action(simulation: Simulation) -> None:
    simulation.is_greedy = True
    for info in ticks(simulation, 8):
        assert choice(info) == max(range(3), key=info["probs"].__getitem__)


def test_shown_predictions_are_as_old_as_the_horizon(
    simulation: Simulation,
) -> None:
    ages = [info["foreseen_age"] for info in ticks(simulation, 8) if info["episode"] == 0]
    assert ages == [min(time, 4) for time in range(len(ages))]


def test_a_dream_begins_at_the_real_moment_and_obeys_the_keys(simulation: Simulation) -> None:
    ticks(simulation, 3)
    frame = simulation.enter_dream()
    assert frame.info["mode"] == "dream" and frame.info["open_loop_steps"] == 0
    assert frame.info["time"] == 2
    simulation.held = frozenset({"right"})
    shown = ticks(simulation, 2)
    assert [choice(info) for info in shown] == [2, 2]
    simulation.held = frozenset({"left"})
    assert choice(simulation.tick().info) == 1
    assert taken(simulation)[2:] == [2, 2, 1]  # the real env takes the same actions
    assert all(info["open_loop"] for info in shown)


def test_a_dream_begins_with_a_frame_also_after_open_loop(
    simulation: Simulation,
) -> None:
    simulation.tick()
    simulation.is_open_loop = True
    ticks(simulation, 2)
    assert simulation._belief.kl is None
    simulation.enter_dream()
    assert simulation.branch.belief.kl is not None


def test_a_dream_goes_on_when_the_env_has_ended(simulation: Simulation) -> None:
    simulation.tick()
    simulation.enter_dream()
    simulation.held = frozenset({"right"})
    shown = ticks(simulation, 20)
    assert shown[-1]["over"] and shown[-1]["open_loop_steps"] == 20
    assert shown[-1]["reward"] != shown[-1]["reward"]  # NaN: no real reward any more


def test_dreaming_again_comes_back_to_the_same_real_frame(simulation: Simulation) -> None:
    ticks(simulation, 3)
    before = simulation.enter_dream()
    simulation.held = frozenset({"right"})
    ticks(simulation, 20)
    again = simulation.dream_again()
    assert torch.equal(again.pictures["screen"], before.pictures["screen"])
    assert torch.equal(again.pictures["decoded"], before.pictures["decoded"])
    assert again.info["time"] == before.info["time"] and not again.info["over"]


def test_the_agent_takes_over_where_the_person_left_the_env(
    simulation: Simulation,
) -> None:
    ticks(simulation, 2)
    simulation.enter_dream()
    ticks(simulation, 2)
    assert simulation.leave_dream().info["mode"] == "watch"
    info = simulation.tick().info
    assert info["time"] == 4 and info["open_loop"] is False


def test_dreaming_again_needs_a_dream(simulation: Simulation) -> None:
    with pytest.raises(ValueError, match="enter one first"):
        simulation.dream_again()


def test_an_env_without_stages_says_so(simulation: Simulation) -> None:
    with pytest.raises(ValueError, match="no stages; got stage '1-2'"):
        simulation.restart(0, "1-2")
    assert simulation.tick().info["time"] == 0  # and goes on


def test_only_agents_of_the_list_can_be_loaded(agents: Agents) -> None:
    assert agents.listed()[0] == {"id": "main", "name": "tiny, 7 steps"}
    assert [entry["id"] for entry in agents.listed()] == ["main", "run:wide", "shipped", "none"]
    other = agents.load("run:wide")
    assert other.loaded.env_options["cells"] == 16
    with pytest.raises(ValueError, match="no agent '/etc'"):
        agents.load("/etc")


@pytest.mark.rom
def test_mario_has_full_resolution_and_changeable_stages(
    tmp_path: Path, offer: Callable[..., Agents], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = compose.compose_default(["size=debug"])
    monkeypatch.setattr(compose, "compose_default", lambda: small)
    untrained = offer(tmp_path, "none").first
    assert untrained.loaded.checkpoint is None and untrained.loaded.policy.uniform
    simulation = Simulation(untrained.inspector, untrained.loaded)
    frame = simulation.tick()
    assert frame.pictures["screen"].shape == (240, 256, 3)
    assert frame.pictures["observation"].shape == (64, 64, 3)
    actions = len(simulation.env.action_set.names)
    assert frame.info["probs"] == pytest.approx([1 / actions] * actions, abs=1e-5)
    assert frame.info["env"]["x_pos"] == 40
    with pytest.raises(ValueError, match="no stage '9-1'"):
        simulation.restart(0, "9-1")
    simulation.restart(0, "1-2")
    other = simulation.tick()
    assert not torch.equal(other.pictures["screen"], frame.pictures["screen"])
    simulation.close()


def test_watching_changes_nothing_that_training_changes(
    agent: ViewedAgent, simulation: Simulation
) -> None:
    loaded = agent.loaded
    modules = torch.nn.ModuleList([loaded.policy, loaded.critic])
    before = {key: value.clone() for key, value in modules.state_dict().items()}
    ticks(simulation, 12)
    after = modules.state_dict()
    assert before and all(torch.equal(before[key], after[key]) for key in before)


def test_a_missing_second_agent_is_refused_at_the_start(
    runs: Path, offer: Callable[..., Agents]
) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        offer(runs, str(runs / "tiny"), compare="nowhere")
