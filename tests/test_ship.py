"""The checkpoint that comes with the package: halved, whole, and in every wheel."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from wheel_build import run_from, unpacked_wheel

from mario_dreamer.config import compose
from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read, shipped_checkpoint, verify

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "mario_dreamer" / "shipped"
sys.path.insert(0, str(ROOT / "benchmarks"))  # for what the script imports


def ship_module():
    spec = importlib.util.spec_from_file_location("ship", ROOT / "benchmarks" / "ship.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_ships_is_whole_small_and_says_where_it_comes_from() -> None:
    assert shipped_checkpoint() == SHIPPED
    assert verify(SHIPPED) is None
    assert (SHIPPED / "agent.pt").stat().st_size <= 12e6
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    assert manifest["step"] > 0 and manifest["run"] and "evaluation" in manifest
    assert {path.name for path in SHIPPED.iterdir()} == {*manifest["files"], "manifest.json"}
    assert OmegaConf.load(SHIPPED / "config.yaml").runs_dir == "runs"


def test_halved_weights_are_the_weights_to_three_digits() -> None:
    weights = {"w": torch.randn(64, 64), "few": torch.randn(3), "count": torch.tensor(7)}
    halved = ship_module().halve(weights)
    assert halved["w"].dtype == torch.float16 and halved["few"].dtype == torch.float32
    torch.testing.assert_close(halved["w"].float(), weights["w"], rtol=1e-3, atol=1e-6)
    assert torch.equal(halved["few"], weights["few"]) and halved["count"] == 7
    with pytest.raises(ValueError, match="float16 cannot"):
        ship_module().halve({"w": torch.full((64, 64), 1e6)})


def test_the_average_ships_in_the_place_of_the_latest_weights() -> None:
    weights = {"actor.w": 1, "average.actor.w": 2, "critic.w": 3}
    assert ship_module().averaged(weights) == {"actor.w": 2, "critic.w": 3}


def test_a_view_does_not_drag_its_storage_along(tmp_path: Path) -> None:
    torch.save(ship_module().halve({"part": torch.zeros(1000, 1000)[:1, :10]}), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 10_000


def test_a_shipped_checkpoint_is_float32_and_has_its_evaluation(tmp_path: Path) -> None:
    weights = {"w": torch.randn(40, 40)}
    files, config = {"agent": weights}, {"config.yaml": "runs_dir: /secret\nname: a\nresume: x\n"}
    made = Checkpoints(tmp_path / "a" / "checkpoints").save(20, files, config)
    summary = {"episodes": 4.0, "return": 1.0}
    entry = {"actions": "sampled", "random_noops": 0, "sticky": 0.0, "summary": summary}
    by_step = entry | {"sticky": 0.25, "sticky_unit": "step"}
    results = {"results": [{**kept, "episodes": [{"return": 1.0}]} for kept in (entry, by_step)]}
    (made / "results.json").write_text(json.dumps(results))
    out = ship_module().ship(made, tmp_path / "shipped")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["evaluation"] == [entry, by_step] and manifest["step"] == 20
    assert "secret" not in (out / "config.yaml").read_text()
    module = torch.nn.Linear(40, 40, bias=False)
    module.load_state_dict({"weight": read(out, "agent")["w"]})
    assert module.weight.dtype == torch.float32
    torch.testing.assert_close(module.weight.data, weights["w"], rtol=1e-3, atol=1e-6)


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    files, config = {"agent": {"w": torch.zeros(2)}}, {"config.yaml": "runs_dir: runs\n"}
    made = Checkpoints(tmp_path / "a" / "checkpoints").save(20, files, config)
    with pytest.raises(ValueError, match="holds no evaluation"):
        ship_module().ship(made, tmp_path / "out" / "shipped", tmp_path / "missing.json")
    assert not (tmp_path / "out").exists()


def test_without_any_run_the_shipped_agent_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = OmegaConf.create(
        {"checkpoint": "auto", "runs_dir": str(tmp_path), "trust_config": False, "device": "cpu",
         "precision": "fp32", "threads": 1, "seed": 0, "env": {}}
    )  # fmt: skip
    agent = agent_of(cfg)
    assert agent.checkpoint == SHIPPED and "comes with the package" in capsys.readouterr().out
    assert all(p.dtype == torch.float32 for p in agent.policy.parameters())


@pytest.mark.slow
def test_a_fresh_installation_that_is_not_editable_holds_it(tmp_path: Path) -> None:
    site = unpacked_wheel(tmp_path)
    call = "from mario_dreamer.training import checkpoint_files as f; print(f.shipped_checkpoint())"
    done = run_from(site, "-c", call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = done.stdout.strip()
    assert shown == str(tmp_path / "site" / "mario_dreamer" / "shipped")
    assert verify(Path(shown)) is None
    assert compose.compose_default() is not None
    viewer = {path.name for path in (tmp_path / "site/mario_dreamer/viewer/static").iterdir()}
    assert {"index.html", "main.js", "style.css"} <= viewer
