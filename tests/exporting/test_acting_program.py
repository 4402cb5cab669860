"""The exported program is the agent: same frames, same noise, same actions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.program_file import ProgramFile, example_inputs, picture_rules

# What somebody without our package does: keep the state, hand in frames and noise.
FOREIGN = """
import sys, torch
sys.modules["mario_dreamer"] = None
program = torch.export.load(sys.argv[1]).module()
for episode in torch.load(sys.argv[2], weights_only=True):
    action, deter, stoch = episode["start"]
    chosen = []
    for pixels, first, noise in zip(episode["pixels"], episode["first"], episode["noise"]):
        out = program(observation={"pixels": pixels}, prev_action=action, deter=deter, stoch=stoch,
                      is_first=first, noise=noise, greedy=episode["greedy"])
        action, deter, stoch = out["action"], out["deter"], out["stoch"]
        chosen.append(action.argmax(-1).tolist())
    print(chosen)
"""


def play(agent: tiny.Tiny, greedy: bool, steps: int) -> tuple[dict, list]:
    """Let the agent play; note what it saw, its noise, and its actions."""
    rssm = agent.agent.world_model.rssm
    games, kind = 2, ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    notes: dict[str, list] = {"pixels": [], "first": [], "noise": []}
    chosen, state = [], agent.env.reset()
    with set_exploration_type(kind):
        for step in range(steps):
            notes["pixels"].append(state["pixels"].clone())
            notes["first"].append(state["is_init"].flatten().clone())
            torch.manual_seed(step)  # the numbers that the agent is about to draw
            z, a = torch.rand(games, rssm.stoch_shape[0], 1), torch.rand(games, 1)
            notes["noise"].append(torch.cat([z[..., 0], a], -1))
            torch.manual_seed(step)
            played, state = agent.env.step_and_maybe_reset(agent.policy(state))
            chosen.append(played["action"].argmax(-1).tolist())
    start = (torch.full((games, rssm.action_dim), 0.3), torch.randn(games, rssm.deter_dim),
             torch.zeros(games, *rssm.stoch_shape))  # fmt: skip
    return {**notes, "start": start, "greedy": torch.full((games,), greedy)}, chosen


@pytest.fixture(scope="module")
def agent() -> tiny.Tiny:
    made = tiny.make_tiny()
    tiny.depend_on_what_is_seen(made.agent.actor)
    return made


@pytest.fixture(scope="module")
def card(agent: tiny.Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = ProgramFile(ActingProgram(agent.policy), agent.env, {"length": 6})
    return file.write(tmp_path_factory.mktemp("program") / "policy.pt2", "runs/a", 123)


def test_the_program_acts_as_the_agent_without_our_package(
    agent: tiny.Tiny, card: Path, tmp_path: Path
) -> None:
    episodes = [play(agent, greedy, steps=15) for greedy in (True, False)]
    torch.save([seen for seen, _ in episodes], tmp_path / "seen.pt")
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, card.with_suffix(".pt2"), tmp_path / "seen.pt"],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [c for _, c in episodes]
    assert all(len(set(map(str, chosen))) > 2 for _, chosen in episodes)  # not one action forever
    assert all(
        torch.stack(seen["first"]).sum() > 2 for seen, _ in episodes
    )  # over several episodes


def test_an_opening_frame_forgets_the_past(agent: tiny.Tiny) -> None:
    program = ActingProgram(agent.policy)
    inputs = example_inputs(program, {"pixels": (3, 16, 16)}, games=1)
    fresh = program(**inputs)
    haunted = program(**{**inputs, "deter": torch.ones(1, 16), "prev_action": torch.ones(1, 3)})
    assert torch.equal(fresh["deter"], haunted["deter"])
    later = {**inputs, "deter": torch.ones(1, 16), "is_first": torch.tensor([False])}
    assert not torch.equal(fresh["deter"], program(**later)["deter"])


def test_the_program_is_a_copy_that_learning_does_not_change(agent: tiny.Tiny) -> None:
    program = ActingProgram(agent.policy)
    parameter = next(agent.agent.actor.parameters())
    before = next(program.policy.actor.parameters()).clone()
    with torch.no_grad():
        parameter.add_(1.0)
    assert torch.equal(before, next(program.policy.actor.parameters()))
    with torch.no_grad():
        parameter.sub_(1.0)


def test_the_card_says_what_goes_in_and_what_comes_out(card: Path) -> None:
    shown = json.loads(card.read_text())
    assert shown["inputs"]["observation"]["pixels"] == {"shape": ["N", 3, 16, 16], "dtype": "uint8"}
    assert shown["inputs"]["noise"] == {"shape": ["N", 4], "dtype": "float32"}  # S = 3, and one
    assert shown["outputs"]["action"]["shape"] == ["N", 3]
    assert shown["action_names"] == ["action 0", "action 1", "action 2"]
    assert shown["picture"] is None and shown["buttons"] is None  # an env without a raw screen
    assert (shown["checkpoint"], shown["agent_steps"]) == ("runs/a", 123)


def test_a_mario_card_says_how_a_screen_becomes_a_picture() -> None:
    env = {"stage": "1-2", "crop_top": 32, "max_pool": True, "action_repeat": 4}
    picture = picture_rules(env, (3, 64, 64))
    assert picture["screen"] == [240, 256, 3] and picture["size"] == [64, 64]
    assert picture["crop_top"] == 32 and picture["max_pool"] is True
