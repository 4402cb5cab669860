"""Exported agents with every kind of action play as the agent itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import tiny
import torch
from gymnasium import spaces
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer import keys
from mario_dreamer.config.actions import describe_actions
from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.envs.torchrl import innermost
from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.mlflow_model import save_model
from mario_dreamer.exporting.mlflow_player import DreamerPlayer
from mario_dreamer.exporting.program_file import ProgramFile, describe, example_inputs
from mario_dreamer.networks import action_heads
from mario_dreamer.networks.action_heads import ActionHead

KINDS = {
    "indices": [], "binary": [], "bounded": [], "unbounded": [],
    "tanh": ["actor=tanh_normal"], "truncated": ["actor=truncated_normal"],
}  # fmt: skip


def make(kind: str) -> tiny.Tiny:
    """A tiny agent whose actor depends on what it sees."""
    spec = "bounded" if kind in ("tanh", "truncated") else kind
    made = tiny.make_tiny(
        "env=own", "env._target_=echo_env.make_echo_env", f"+env.kind={spec}", *KINDS.get(kind, []),
        without=["env.length", "env.image_size", "env"],
    )  # fmt: skip
    tiny.depend_on_what_is_seen(made.agent.actor)
    return made


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("indices", "bounded") else pytest.param(kind, marks=pytest.mark.slow)
     for kind in KINDS],
)  # fmt: skip
def test_the_program_of_any_kind_of_action_acts_as_the_policy(kind: str, tmp_path: Path) -> None:
    made = make(kind)
    program = ActingProgram(made.policy)
    file = ProgramFile(program, made.env, {}).write(tmp_path / "policy.pt2", "runs/a", 1)
    card = json.loads(file.read_text())
    loaded = torch.export.load(tmp_path / "policy.pt2").module()
    inputs = example_inputs(program, {"vector": made.env.observation_spec["vector"].shape[1:]}, 2)
    state = made.env.reset()
    for step in range(4):
        torch.manual_seed(step)  # z_t is drawn with the numbers that the policy is about to draw
        inputs["noise"][:, : made.agent.world_model.rssm.stoch_shape[0]] = torch.rand(2, 3, 1)[..., 0]
        torch.manual_seed(step)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            played, state = made.env.step_and_maybe_reset(made.policy(state))
        inputs |= {"observation": {"vector": played["vector"]}, "greedy": torch.ones(2).bool()}
        out = loaded(**inputs)
        torch.testing.assert_close(out["action"], played["action"].float())
        torch.testing.assert_close(out["deter"], played["next", keys.DETER])
        inputs |= {key: out[key] for key in ("deter", "stoch")}
        inputs |= {"prev_action": out["action"], "is_first": torch.zeros(2).bool()}
    assert ("probs" in card["outputs"]) == (kind == "indices")
    assert card["actions"]["kind"] == made.agent.actor.head.kind
    bounds = [[-2.0, 0.0], [2.0, 10.0]] if kind in ("bounded", "tanh", "truncated") else [None] * 2
    assert [card["actions"]["low"], card["actions"]["high"]] == bounds


HEADS = {
    "OneHotHead": {"action_dim": 3}, "MultiOneHotHead": {"choices": [2, 3]},
    "BernoulliActionHead": {"action_dim": 2}, "BoundedNormalHead": {"action_dim": 2},
    "TanhNormalHead": {"action_dim": 2}, "TruncatedNormalHead": {"action_dim": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_drawing_with_noise_follows_the_distribution(name: str) -> None:
    head: ActionHead = getattr(action_heads, name)(4, layers=0, **HEADS[name])
    params = head(torch.randn(1, 4)).expand(40_000, -1)
    drawn = head.draw(params, torch.rand(40_000, head.noise_dim))
    sampled = head.dist(params).sample()
    assert drawn.shape == sampled.shape and drawn.dtype == torch.float32
    for power in (1, 2):
        torch.testing.assert_close(
            drawn.pow(power).mean(0), sampled.pow(power).mean(0), atol=0.03, rtol=0.03
        )
    ends = torch.stack([torch.zeros(head.noise_dim), torch.full((head.noise_dim,), 1 - 2**-24)])
    assert bool(head.draw(params[:2], ends).isfinite().all())


def test_the_likelier_button_is_never_nan() -> None:
    head = action_heads.BernoulliActionHead(4, action_dim=3)
    params = torch.tensor([-1.0, 0.0, 1.0])
    assert head.dist(params).deterministic_sample.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "drawn", "played"),
    [("bounded", [-1.0, 0.5], [-2.0, 7.5]), ("unbounded", [-9.0, 9.0], [-9.0, 9.0]),
     ("half_bounded", [-9.0, 0.0], [0.0, 2.0]),
     ("indices", [0.0, 1.0, 0.0, 0.0, 1.0], [1, 1]), ("binary", [1.0, 0.0, 1.0], [1, 0, 1])],
)  # fmt: skip
def test_the_mlflow_player_answers_with_the_envs_own_actions(
    kind: str, drawn: list[float], played: list[float]
) -> None:
    made = make(kind)
    program = ActingProgram(made.policy)
    player = DreamerPlayer()
    player.card = describe(program, made.env, {})
    assert player._as_env_takes_it(torch.tensor(drawn)) == played


SPACES = [
    spaces.Discrete(3, start=5), spaces.MultiDiscrete([4], start=[2]),
    spaces.MultiDiscrete([3, 2], start=[5, 7]), spaces.MultiDiscrete([[3, 2], [2, 2]]),
    spaces.MultiBinary((2, 3)), spaces.Box(-2, 2, ()), spaces.Box(-2, 2, (2, 3)),
    spaces.Box(0, 255, (2,), np.uint8), spaces.MultiBinary(1),
    spaces.Box(-0.1, 0.1, (2,), np.float64),
]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "parallel"),
    [*((space, False) for space in SPACES), pytest.param(SPACES[2], True, marks=pytest.mark.slow)],
    ids=str,
)
def test_the_mlflow_player_counts_and_shapes_as_the_space_does(
    space: spaces.Space, parallel: bool
) -> None:
    options = {"space": spaces.Box(-1, 1, (2,)), "actions": space}
    env = with_agent_actions(
        make_gym_env("gym_examples:DreamerTest/Sampled-v0", options=options, parallel=parallel)
    )
    kind, sizes = describe_actions(env.action_spec)
    program = SimpleNamespace(
        actor=SimpleNamespace(kind=kind, choices=sizes.get("choices")),
        policy=SimpleNamespace(world_model=SimpleNamespace(observation_keys=["vector"])),
    )
    player = DreamerPlayer()
    player.card = json.loads(json.dumps(describe(program, env, {})))
    start = env.rand_action(env.reset())
    if kind == "continuous":  # to the end of the range
        start["action"] = torch.ones_like(start["action"])
    played = env.step(start)["action"][0]
    answer = player._as_env_takes_it(played.float())
    taken = next(iter(innermost(env).get_wrapper_attr("taken")))[-1]
    np.testing.assert_allclose(answer, taken, rtol=1e-6)
    assert np.shape(answer) == space.shape and np.asarray(answer, space.dtype) in space
    env.close()


def test_an_mlflow_model_plays_a_continuous_agent_from_vectors(tmp_path: Path) -> None:
    made = make("bounded")
    program = ActingProgram(made.policy)
    file = ProgramFile(program, made.env, {})
    card = file.write(tmp_path / "policy.pt2", "runs/a", 1)
    model = mlflow.pyfunc.load_model(str(save_model(tmp_path / "policy.pt2", card, tmp_path / "m")))
    answers = [model.predict({"vector": np.full((1, 2), step, np.float32)}) for step in range(3)]
    assert list(answers[0].columns) == ["action", "step"]
    assert [answer["step"].iloc[0] for answer in answers] == [0, 1, 2]
    for answer in answers:
        first, second = answer["action"].iloc[0]
        assert -2.0 <= first <= 2.0 and 0.0 <= second <= 10.0
