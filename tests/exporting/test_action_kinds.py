"""Exported agents with every kind of action play as the agent itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
import tiny
import torch
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer import keys
from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.mlflow_model import save_model
from mario_dreamer.exporting.program_file import ProgramFile, example_inputs
from mario_dreamer.networks import action_heads
from mario_dreamer.networks.action_heads import ActionHead

KINDS = {
    "indices": [], "binary": [], "bounded": [], "unbounded": [],
    "tanh": ["actor=tanh_normal"], "truncated": ["actor=truncated_normal"],
}  # fmt: skip


@dataclass
class Exported:
    """A tiny agent whose actor depends on what it sees, and its program's file."""

    kind: str
    agent: tiny.Tiny
    program: Path

    @property
    def card(self) -> Path:
        return self.program.with_suffix(".json")


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    kind = request.param
    spec = "bounded" if kind in ("tanh", "truncated") else kind
    made = tiny.make_tiny(
        "env=own", "env._target_=echo_env.make_echo_env", f"+env.kind={spec}", *KINDS[kind],
        without=["env.length", "env.image_size", "env"],
    )  # fmt: skip
    tiny.depend_on_what_is_seen(made.agent.actor)
    path = tmp_path_factory.mktemp(kind) / "policy.pt2"
    ProgramFile(ActingProgram(made.policy), made.env, {}).write(path, "runs/a", 1)
    return Exported(kind, made, path)


@pytest.mark.parametrize(
    "exported",
    [kind if kind in ("indices", "bounded") else pytest.param(kind, marks=pytest.mark.slow)
     for kind in KINDS],
    indirect=True,
)  # fmt: skip
def test_the_program_of_any_kind_of_action_acts_as_the_policy(exported: Exported) -> None:
    made, card = exported.agent, json.loads(exported.card.read_text())
    program = ActingProgram(made.policy)
    loaded = torch.export.load(exported.program).module()
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
    assert ("probs" in card["outputs"]) == (exported.kind == "indices")
    assert card["actions"]["kind"] == made.agent.actor.head.kind
    is_bounded = exported.kind in ("bounded", "tanh", "truncated")
    bounds = [[-2.0, 0.0], [2.0, 10.0]] if is_bounded else [None] * 2
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


@pytest.mark.parametrize("exported", ["bounded"], indirect=True)
def test_an_mlflow_model_plays_a_continuous_agent_from_vectors(
    exported: Exported, tmp_path: Path
) -> None:
    folder = save_model(exported.program, exported.card, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(folder))
    answers = [model.predict({"vector": np.full((1, 2), step, np.float32)}) for step in range(3)]
    assert list(answers[0].columns) == ["action", "step"]
    assert [answer["step"].iloc[0] for answer in answers] == [0, 1, 2]
    for answer in answers:
        first, second = answer["action"].iloc[0]
        assert -2.0 <= first <= 2.0 and 0.0 <= second <= 10.0
    with pytest.raises(Exception, match="vector"):
        model.predict({"vector": np.zeros((1, 3), np.float32)})
