"""What is shown is what happened: time, chance, dreams and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.viewer.agents import Agents, LoadedAgent
from mario_dreamer.viewer.simulation import Simulation


def ticks(simulation: Simulation, count: int) -> list[dict]:
    return [simulation.tick().facts for _ in range(count)]


def test_the_first_frame_opens_an_episode_with_open_eyes(simulation: Simulation) -> None:
    frame = simulation.tick()
    assert frame.facts["time"] == 0 and frame.facts["episode"] == 0
    assert frame.facts["eyes"] == "open" and frame.facts["surprise"] is not None
    assert {name: tuple(p.shape) for name, p in frame.pictures.items()} == {
        "real": (32, 32, 3), "seen": (32, 32, 3), "mind": (32, 32, 3), "latent": (4, 4, 1),
        "dream": (32, 32, 3),
    }  # fmt: skip
    assert all(picture.dtype == torch.uint8 for picture in frame.pictures.values())


def test_the_action_shown_is_the_one_taken_next(simulation: Simulation) -> None:
    shown = ticks(simulation, 6)
    assert simulation.world.actions == [facts["action"] for facts in shown[:5]]


def test_an_ended_episode_is_shown_and_then_a_new_one_begins(simulation: Simulation) -> None:
    shown = ticks(simulation, 60)
    ends = [i for i, facts in enumerate(shown) if facts["over"]]
    assert ends
    after = shown[ends[0] + 1]
    assert after["time"] == 0 and after["episode"] == 1 and not after["over"]


def test_one_seed_shows_the_same_twice_whatever_others_do(agent: LoadedAgent) -> None:
    alone = Simulation(agent.mind, agent.cfg, seed=5)
    expected = ticks(alone, 30)
    first, second = (Simulation(agent.mind, agent.cfg, seed=seed) for seed in (5, 6))
    seen = []
    for _ in range(30):
        seen += ticks(first, 1)
        ticks(second, 1)
        torch.rand(3)
    assert seen == expected


def test_a_simulation_leaves_the_random_stream_of_the_process_alone(
    simulation: Simulation,
) -> None:
    before = torch.get_rng_state()
    ticks(simulation, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_restart_shows_the_same_episode_again(simulation: Simulation) -> None:
    expected = ticks(simulation, 10)
    simulation.restart(simulation.seed)
    assert ticks(simulation, 10) == expected


def test_shut_eyes_do_not_look_while_the_world_goes_on(simulation: Simulation) -> None:
    simulation.tick()
    simulation.eyes_shut = True
    shut = simulation.tick().facts
    assert shut["eyes"] == "shut" and shut["shut_for"] == 1 and shut["surprise"] is None
    assert shut["time"] == 1
    # What stands before its eyes makes no difference to a blind mind.
    saved = torch.get_rng_state()
    states = []
    for action in (1, 2):
        torch.set_rng_state(saved)
        simulation.world.replay(3, [action])
        states.append(simulation.mind.imagine(simulation._state, 0).deter)
    assert torch.equal(*states)
    simulation.world.replay(3, [0])
    simulation.eyes_shut = False
    opened = simulation.tick().facts
    assert opened["eyes"] == "open" and opened["shut_for"] == 0


def test_greedy_takes_the_likeliest_action(simulation: Simulation) -> None:
    simulation.greedy = True
    for facts in ticks(simulation, 8):
        assert facts["action"] == max(range(3), key=facts["probs"].__getitem__)


def test_dreams_shown_are_as_old_as_the_horizon_once_there_was_time(
    simulation: Simulation,
) -> None:
    ages = [facts["dream_age"] for facts in ticks(simulation, 8) if facts["episode"] == 0]
    assert ages == [min(time, 4) for time in range(len(ages))]


def test_a_dream_begins_at_the_real_moment_and_obeys_the_keys(simulation: Simulation) -> None:
    ticks(simulation, 3)
    frame = simulation.enter_dream()
    assert frame.facts["mode"] == "dream" and frame.facts["shut_for"] == 0
    assert frame.facts["time"] == 2
    simulation.held = frozenset({"right"})
    shown = ticks(simulation, 2)
    assert [facts["action"] for facts in shown] == [2, 2]
    simulation.held = frozenset({"left"})
    assert simulation.tick().facts["action"] == 1
    assert simulation.world.actions[2:] == [2, 2, 1]  # the real world takes the same actions
    assert all(facts["eyes"] == "shut" for facts in shown)


def test_a_dream_begins_with_a_look_even_when_the_eyes_were_shut(
    simulation: Simulation,
) -> None:
    simulation.tick()
    simulation.eyes_shut = True
    ticks(simulation, 2)
    assert simulation._state.surprise is None
    simulation.enter_dream()
    assert simulation.branch.state.surprise is not None


def test_a_dream_goes_on_when_the_real_world_has_ended(simulation: Simulation) -> None:
    simulation.tick()
    simulation.enter_dream()
    simulation.held = frozenset({"right"})
    shown = ticks(simulation, 20)
    assert shown[-1]["over"] and shown[-1]["shut_for"] == 20
    assert shown[-1]["reward"] != shown[-1]["reward"]  # NaN: no real reward any more


def test_dreaming_again_comes_back_to_the_same_real_frame(simulation: Simulation) -> None:
    ticks(simulation, 3)
    before = simulation.enter_dream()
    simulation.held = frozenset({"right"})
    ticks(simulation, 20)
    again = simulation.dream_again()
    assert torch.equal(again.pictures["real"], before.pictures["real"])
    assert torch.equal(again.pictures["mind"], before.pictures["mind"])
    assert again.facts["time"] == before.facts["time"] and not again.facts["over"]


def test_the_agent_takes_over_where_the_person_left_the_real_world(
    simulation: Simulation,
) -> None:
    ticks(simulation, 2)
    simulation.enter_dream()
    ticks(simulation, 2)
    assert simulation.leave_dream().facts["mode"] == "watch"
    facts = simulation.tick().facts
    assert facts["time"] == 4 and facts["eyes"] == "open"


def test_dreaming_again_needs_a_dream(simulation: Simulation) -> None:
    with pytest.raises(ValueError, match="enter one first"):
        simulation.dream_again()


def test_a_world_without_stages_says_so(simulation: Simulation) -> None:
    with pytest.raises(ValueError, match="no stages; got stage '1-2'"):
        simulation.restart(0, "1-2")
    assert simulation.tick().facts["time"] == 0  # and goes on


def test_only_agents_of_the_list_can_be_loaded(agents: Agents) -> None:
    assert agents.listed()[0] == {"id": "main", "name": "tiny, 7 steps"}
    assert [entry["id"] for entry in agents.listed()] == ["main", "run:wide", "shipped", "none"]
    other = agents.load("run:wide")
    assert other.cfg.env.cells == 16
    with pytest.raises(ValueError, match="no agent '/etc'"):
        agents.load("/etc")


@pytest.mark.rom
def test_mario_is_shown_at_full_resolution_and_stages_can_be_changed(
    cfg: DictConfig, tmp_path: Path
) -> None:
    untrained = Agents(
        OmegaConf.merge(cfg, {"checkpoint": "none", "runs_dir": str(tmp_path)})
    ).first
    assert untrained.checkpoint is None and untrained.mind.uniform
    simulation = Simulation(untrained.mind, untrained.cfg)
    frame = simulation.tick()
    assert frame.pictures["real"].shape == (240, 256, 3)
    assert frame.pictures["seen"].shape == (64, 64, 3)
    actions = len(simulation.world.names)
    assert frame.facts["probs"] == pytest.approx([1 / actions] * actions, abs=1e-5)
    assert frame.facts["world"]["x_pos"] == 40
    with pytest.raises(ValueError, match="no stage '9-1'"):
        simulation.restart(0, "9-1")
    simulation.restart(0, "1-2")
    other = simulation.tick()
    assert not torch.equal(other.pictures["real"], frame.pictures["real"])
    simulation.close()
