"""Dreams from a recorded episode: which files are offered, and that the moment is the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.viewer.agents import Agents, LoadedAgent
from mario_dreamer.viewer.player import Player
from mario_dreamer.viewer.recordings import Recordings, read_recording
from mario_dreamer.viewer.simulation import Simulation

WAY = [2, 2, 1, 2, 2, 2]


def record(path: Path, cfg: DictConfig, actions: list[int] | None = None, **env) -> Path:
    """An action list as evaluate writes it."""
    saved = {"env": OmegaConf.to_container(cfg.env) | env, "actions": actions or WAY, "facts": {}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(saved))
    return path


@pytest.fixture
def file(tmp_path: Path, agent: LoadedAgent) -> Path:
    return record(tmp_path / "evaluation" / "greedy-best-0.json", agent.cfg)


def test_a_dream_begins_at_the_chosen_step_of_the_episode(
    simulation: Simulation, file: Path
) -> None:
    simulation.tick()
    frame = simulation.enter_recording(read_recording(file), 4)
    assert frame.facts["mode"] == "dream" and frame.facts["time"] == 4
    assert simulation.world.actions == WAY[:4]
    assert simulation.branch.state.surprise is not None  # it has looked at that very frame
    simulation.world.replay(0, WAY[:4])
    again = simulation.world.screen(simulation._observation)
    assert torch.equal(frame.pictures["real"], again)
    simulation.held = frozenset({"left"})
    assert simulation.tick().facts["eyes"] == "shut"
    assert torch.equal(simulation.dream_again().pictures["mind"], frame.pictures["mind"])


def test_the_agent_has_watched_the_episode_up_to_there(simulation: Simulation, file: Path) -> None:
    states = []
    for start in (2, 5):
        simulation.restart(3)
        simulation.enter_recording(read_recording(file), start)
        states.append(simulation.branch.state.deter)
    assert not torch.equal(*states)


def test_watching_in_one_go_leads_where_looking_frame_by_frame_does(
    simulation: Simulation,
) -> None:
    world, mind = simulation.world, simulation.mind
    seen = [world.begin(0), *(world.step(action).clone() for action in WAY[:4])]
    torch.manual_seed(1)
    state = None
    for observation, action in zip(seen, [None, *WAY[:4]], strict=True):
        state = mind.see(observation, state, action)
    torch.manual_seed(1)
    watched = mind.watch(torch.cat([one.select("pixels") for one in seen]), WAY[:4])
    torch.testing.assert_close(watched.deter, state.deter)
    assert torch.equal(watched.stoch, state.stoch)
    torch.testing.assert_close(watched.surprise, state.surprise)


def test_the_last_moment_is_the_one_before_the_end(simulation: Simulation, file: Path) -> None:
    frame = simulation.enter_recording(read_recording(file), 10**6)
    assert frame.facts["time"] == len(WAY) - 1 and not frame.facts["over"]


def test_an_episode_that_ends_before_is_refused_and_all_goes_on(
    simulation: Simulation, tmp_path: Path
) -> None:
    simulation.tick()
    long = read_recording(record(tmp_path / "long.json", simulation.cfg, [2] * 50))
    with pytest.raises(ValueError, match="ends after"):
        simulation.enter_recording(long, 49)
    assert simulation.tick().facts["mode"] == "watch"


def test_a_restart_after_it_is_a_world_of_the_agents_own(
    simulation: Simulation, file: Path
) -> None:
    simulation.enter_recording(read_recording(file), 2)
    simulation.restart(7)
    assert simulation.world.chance and simulation.tick().facts["mode"] == "watch"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"sticky": 0.25}, "do not lead there again"), ({"action_repeat": 9}, "action_repeat=9"),
     ({"_target_": "elsewhere"}, "_target_=elsewhere"), ({"action_set": "simple"}, "other actions")],
)  # fmt: skip
def test_an_episode_of_another_world_is_refused(
    simulation: Simulation, tmp_path: Path, change: dict, said: str
) -> None:
    recording = read_recording(record(tmp_path / "a.json", simulation.cfg, **change))
    with pytest.raises(ValueError, match=said):
        recording.check(simulation.cfg, simulation.world.names)


@pytest.mark.parametrize(
    "junk", ["", "[]", '{"env": {}, "actions": []}', '{"env": {}, "actions": [1.5]}',
             '{"env": [], "actions": [1]}', "[" * 100_000],
)  # fmt: skip
def test_files_that_are_no_episode_get_one_clear_error(tmp_path: Path, junk: str) -> None:
    (tmp_path / "junk.json").write_text(junk)
    with pytest.raises(ValueError, match="Expected an action list"):
        read_recording(tmp_path / "junk.json")
    with pytest.raises(ValueError, match="no recorded episode lies in"):
        Recordings(tmp_path)
    assert Recordings(None, [tmp_path, tmp_path / "nowhere"]).listed() == []


def test_a_page_chooses_from_the_list_and_is_shown_the_moment(cfg: DictConfig, file: Path) -> None:
    agents = Agents(OmegaConf.merge(cfg, {"recording": str(file)}))
    player = Player(agents)
    offered = player.hello()["recordings"]
    assert offered == [{"id": "0", "name": "greedy-best-0 (evaluation)", "length": 6}]
    hello, frame = player.apply({"type": "recording", "id": "0", "position": 3})
    assert hello["type"] == "hello" and b'"mode": "dream"' in frame and b'"time": 3' in frame
    with pytest.raises(ValueError, match="no recorded episode '/etc/passwd'"):
        player.apply({"type": "recording", "id": "/etc/passwd", "position": 3})
    player.close()
