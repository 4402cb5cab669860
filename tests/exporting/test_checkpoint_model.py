"""A policy that cannot be exported costs the models of a run, and one warning."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from mario_dreamer.exporting.checkpoint_model import CheckpointModel
from mario_dreamer.networks.action_heads import ActionHead


@pytest.fixture(scope="module")
def agent() -> tiny.Tiny:
    return tiny.make_tiny()


def test_a_model_that_cannot_be_exported_is_one_warning(
    agent: tiny.Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = CheckpointModel(agent.policy, agent.env, {})
    monkeypatch.setitem(agent.policy.actor._modules, "head", None)
    for step in (1, 2):
        assert write(tmp_path, step) is None
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and "no MLflow model from here on:" in warned[0]


@pytest.mark.parametrize(
    ("head", "lacking"),
    [(torch.nn.Linear(4, 2), "Linear lacks draw"), (ActionHead(4, 2), "ActionHead lacks draw")],
)  # fmt: skip
def test_actions_that_cannot_be_exported_are_named_at_the_start(
    head: torch.nn.Module, lacking: str, agent: tiny.Tiny, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setitem(agent.policy.actor._modules, "head", head)
    write = CheckpointModel(agent.policy, agent.env, {})
    assert lacking in caplog.text
    assert write(tmp_path, 1) is None and len(caplog.records) == 1
