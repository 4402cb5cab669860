"""Where the results of evaluate, report and export go in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mario_dreamer.commands._store import store_for
from mario_dreamer.config.trusted import word_of_trust

FAR = "http://somewhere:5000"


def options(**typed: object) -> object:
    return OmegaConf.create({"track": "auto", "tracking_uri": None, **typed})


def stored(uri: str | None) -> object:
    return OmegaConf.create({"tracker": {"tracking_uri": uri}})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "mlflow_run_id.txt").write_text("a" * 32)
    return folder


def test_results_go_to_the_store_of_the_run(run: Path, tmp_path: Path) -> None:
    own, default = f"sqlite:///{tmp_path}/own.db", f"sqlite:///{tmp_path}/mlflow.db"
    assert store_for(options(), stored(own), run) == own
    assert store_for(options(), stored(None), run) == default
    assert store_for(options(tracking_uri="sqlite:///typed.db"), stored(own), run) == "sqlite:///typed.db"
    assert store_for(options(track=False), stored(own), run) is None
    assert store_for(options(), stored(own), None) is None, "a checkpoint that lies in no run"


def test_an_address_that_came_with_a_checkpoint_is_not_asked(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert store_for(options(), stored(FAR), run) is None
    assert f"add tracking_uri={FAR} to log there" in caplog.text
    assert store_for(options(track=True), stored(FAR), run) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_folder_is_refused_before_anything_is_played(run: Path) -> None:
    with pytest.raises(ValueError, match=r"^tracking_uri or .MLFLOW_TRACKING_URI: got './mlruns', expected a database"):
        store_for(options(tracking_uri="./mlruns"), stored(None), run)


def test_what_has_to_be_typed_to_load_a_run() -> None:
    assert word_of_trust({"env": {"_target_": "mario_dreamer.envs.toy.corridor.make_toy_env"}}) == ""
    assert word_of_trust({"env": {"_target_": "own_env.make_env"}}) == " trust_config=true"
