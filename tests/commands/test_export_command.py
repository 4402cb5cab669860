"""The command: what it writes, and one clear line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from omegaconf import OmegaConf

from mario_dreamer import cli
from mario_dreamer.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, folder = tiny.make_tiny(), tmp_path_factory.mktemp("runs") / "a"
    Checkpoints(folder / "checkpoints").save(
        7, {"agent": made.learner.modules.state_dict()},
        {"config.yaml": OmegaConf.to_yaml(made.cfg, resolve=True)},
    )  # fmt: skip
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def call(*words: str, code: int = 0) -> str:
        if code:
            with pytest.raises(SystemExit) as ended:
                cli.main(["export", *words])
            assert ended.value.code == code
        else:
            cli.main(["export", *words])
        shown = capsys.readouterr()
        return shown.out + shown.err

    return call


def test_a_run_becomes_a_program_and_a_card(run: Path, command, tmp_path: Path) -> None:
    said = command(str(run), "out=there/mario.pt2")
    card = json.loads((tmp_path / "there" / "mario.json").read_text())
    assert "there/mario.pt2" in said and (tmp_path / "there" / "mario.pt2").stat().st_size > 1000
    assert card["agent_steps"] == 7 and card["checkpoint"].endswith("step_000000007")


@pytest.mark.slow
def test_a_run_becomes_an_mlflow_model(run: Path, command, tmp_path: Path) -> None:
    said = command(str(run), "format=mlflow")
    assert "mlflow.pyfunc.load_model('mlflow_model')" in said
    assert (tmp_path / "mlflow_model" / "MLmodel").is_file()


def test_what_cannot_be_exported_gets_one_clear_line(run: Path, command, tmp_path: Path) -> None:
    assert "ending in .pt2" in command(str(run), "out=mario.onnx", code=1)
    assert "no checkpoint to export" in command("none", code=1)
    assert "is at 'nowhere'" in command("nowhere", code=1)
    assert list(tmp_path.iterdir()) == []
