"""A training run's checkpoints are MLflow models, with the weights of their moment."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import tiny
import torch

from mario_dreamer.exporting.checkpoint_model import MODEL, ModelBeside


def weights(model: Path) -> dict[str, torch.Tensor]:
    return torch.export.load(model / "artifacts" / "policy.pt2").state_dict


def test_each_checkpoint_gets_the_weights_of_its_moment(tmp_path: Path) -> None:
    agent = tiny.make_tiny()
    write = ModelBeside(agent.policy, agent.env, {})
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


def test_what_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = tiny.make_tiny()
    write = ModelBeside(agent.policy, agent.env, {})
    assert write(tmp_path / "not there", 1) is None
    assert write(tmp_path / "not there", 2) is None
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1 and "no MLflow model from here on: [Errno 2]" in said[0]
