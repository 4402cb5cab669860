"""Dreams from a recorded episode: which files are offered, and that the moment is the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mario_dreamer.viewer.agents import Agents, ViewedAgent
from mario_dreamer.viewer.player import Player
from mario_dreamer.viewer.recordings import Recordings, read_recording
from mario_dreamer.viewer.simulation import Simulation

WAY = [2, 2, 1, 2, 2, 2]


def record(path: Path, options: dict, actions: list[int] | None = None, **env) -> Path:
    """An action list as evaluate writes it."""
    saved = {"env": options | env, "actions": actions or WAY, "stats": {}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(saved))
    return path


@pytest.fixture
def file(tmp_path: Path, agent: ViewedAgent) -> Path:
    return record(tmp_path / "evaluation" / "greedy-best-0.json", agent.loaded.env_options)


def test_a_dream_begins_at_the_chosen_step_of_the_episode(
    simulation: Simulation, file: Path
) -> None:
    simulation.tick()
    frame = simulation.enter_recording(read_recording(file), 4)
    assert frame.info["mode"] == "dream" and frame.info["time"] == 4
    assert [int(action.argmax()) for action in simulation.env.actions] == WAY[:4]
    assert simulation.branch.belief.kl is not None  # it has looked at that very frame
    simulation.env.replay(0, list(simulation.env.actions))
    again = simulation.env.screen(simulation._observation)
    assert torch.equal(frame.pictures["screen"], again)
    simulation.held = frozenset({"left"})
    assert simulation.tick().info["open_loop"]
    assert torch.equal(simulation.dream_again().pictures["decoded"], frame.pictures["decoded"])


def test_the_agent_has_watched_the_episode_up_to_there(simulation: Simulation, file: Path) -> None:
    states = []
    for start in (2, 5):
        simulation.restart(3)
        simulation.enter_recording(read_recording(file), start)
        states.append(simulation.branch.belief.deter)
    assert not torch.equal(*states)


def test_the_last_moment_is_the_one_before_the_end(simulation: Simulation, file: Path) -> None:
    frame = simulation.enter_recording(read_recording(file), 10**6)
    assert frame.info["time"] == len(WAY) - 1 and not frame.info["over"]


def test_an_episode_that_ends_before_is_refused(simulation: Simulation, tmp_path: Path) -> None:
    simulation.tick()
    long = read_recording(record(tmp_path / "long.json", simulation.agent.env_options, [2] * 50))
    with pytest.raises(ValueError, match="ends after"):
        simulation.enter_recording(long, 49)
    assert simulation.tick().info["mode"] == "watch"


def test_a_restart_after_it_is_an_env_of_the_agents_own(simulation: Simulation, file: Path) -> None:
    simulation.enter_recording(read_recording(file), 2)
    simulation.restart(7)
    assert simulation.env.is_random and simulation.tick().info["mode"] == "watch"


@pytest.mark.parametrize(
    ("change", "said"),
    [({"sticky": 0.25}, "do not lead there again"), ({"action_repeat": 9}, "action_repeat=9"),
     ({"_target_": "elsewhere"}, "_target_=elsewhere"), ({"action_set": "simple"}, "other actions")],
)  # fmt: skip
def test_an_episode_of_another_env_is_refused(
    simulation: Simulation, tmp_path: Path, change: dict, said: str
) -> None:
    recording = read_recording(
        record(tmp_path / "a.json", simulation.agent.env_options, **change)
    )
    with pytest.raises(ValueError, match=said):
        recording.check(simulation.agent.env_options, simulation.env.action_set)


def test_an_episode_of_several_stages_is_of_the_one_that_was_played(tmp_path: Path) -> None:
    file = record(tmp_path / "a.json", {"stage": ["1-1", "2-3"]})
    with pytest.raises(ValueError, match="does not say which stage it was played on. Expected an"):
        read_recording(file)
    saved = json.loads(file.read_text()) | {"stats": {"world": 2.0, "stage": 3.0}}
    file.write_text(json.dumps(saved))
    assert read_recording(file).stage == "2-3"
    one, none = record(tmp_path / "b.json", {"stage": "1-4"}), record(tmp_path / "c.json", {})
    assert (read_recording(one).stage, read_recording(none).stage) == ("1-4", None)


def test_an_episode_that_began_at_random_is_refused(simulation: Simulation, file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"random_start": True}))
    with pytest.raises(ValueError, match="random starts .* do not lead there again"):
        simulation.enter_recording(read_recording(file), 2)


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


def test_a_page_chooses_from_the_list_and_is_shown_the_moment(
    runs: Path, file: Path, offer: Callable[..., Agents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # evaluations of a user lie in the current folder
    agents = offer(runs, str(runs / "tiny"), recording=file)
    player = Player(agents)
    offered = player.hello()["recordings"]
    assert offered == [{"id": "0", "name": "greedy-best-0 (evaluation)", "length": 6}]
    hello, frame = player.apply({"type": "recording", "id": "0", "position": 3})
    assert hello["type"] == "hello" and b'"mode":"dream"' in frame and b'"time":3,' in frame
    with pytest.raises(ValueError, match="no recorded episode '/etc/passwd'"):
        player.apply({"type": "recording", "id": "/etc/passwd", "position": 3})
    player.close()
