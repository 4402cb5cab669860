"""A training run's checkpoints are MLflow models, with the weights of their moment."""

from __future__ import annotations

import signal
from pathlib import Path

import mlflow
import pytest
import tiny
import torch

from mario_dreamer.exporting.checkpoint_model import MODEL, CheckpointModel
from mario_dreamer.networks.action_heads import ActionHead


def weights(model: Path) -> dict[str, torch.Tensor]:
    return torch.export.load(model / "artifacts" / "policy.pt2").state_dict


def test_each_checkpoint_gets_the_weights_of_its_moment(tmp_path: Path) -> None:
    agent = tiny.make_tiny()
    write = CheckpointModel(agent.policy, agent.env, {})
    models = []
    before = torch.get_rng_state()
    for step in (10, 20):
        checkpoint = tmp_path / f"step_{step}"
        checkpoint.mkdir()
        models.append(write(checkpoint, step))
        assert [path.name for path in checkpoint.iterdir()] == [MODEL]
        with torch.no_grad():
            for parameter in agent.policy.parameters():
                parameter.add_(1.0)
    assert torch.equal(torch.get_rng_state(), before)  # learning goes on with its own chances
    first, second = map(weights, models)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name] + 1)
    loaded = mlflow.pyfunc.load_model(str(models[1]))
    assert loaded.metadata.metadata["agent_steps"] == 20


def test_a_model_that_cannot_be_exported_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = tiny.make_tiny()
    write = CheckpointModel(agent.policy, agent.env, {})
    agent.policy.actor.head = None
    for step in (1, 2):
        assert write(tmp_path, step) is None
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and "no MLflow model from here on:" in warned[0]


@pytest.mark.parametrize(
    ("head", "lacking"),
    [(torch.nn.Linear(4, 2), "Linear lacks draw"), (ActionHead(4, 2), "ActionHead lacks draw")],
)  # fmt: skip
def test_actions_that_cannot_be_exported_are_named_at_the_start(
    head: torch.nn.Module, lacking: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = tiny.make_tiny()
    agent.policy.actor.head = head
    write = CheckpointModel(agent.policy, agent.env, {})
    assert lacking in caplog.text
    assert write(tmp_path, 1) is None and len(caplog.records) == 1


def test_a_full_disk_costs_one_model_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    agent = tiny.make_tiny()
    write = CheckpointModel(agent.policy, agent.env, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        assert write(tmp_path, 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "no MLflow model next to" in caplog.text
    assert write(tmp_path, 2) is not None, "once there is room, models are written again"
