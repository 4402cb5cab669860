"""benchmarks/foresight.py: what it measures, and that later records stay unseen."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mario_dreamer.config import build
from mario_dreamer.config.compose import compose_default

FOLDER = str(Path(__file__).resolve().parents[1] / "benchmarks")


@pytest.fixture(scope="module")
def foresight():
    sys.path.insert(0, FOLDER)
    yield importlib.import_module("foresight")
    sys.path.remove(FOLDER)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Two streams of 40 records each; record n of a stream shows n, and 9, 19, ... are deaths."""
    count = torch.arange(40).repeat(2)
    flag = ((count % 10) == 9)[:, None]
    records = {
        "pixels": count[:, None, None, None].expand(-1, 3, 16, 16).to(torch.uint8),
        "prev_action": torch.zeros(80, 2, dtype=torch.uint8),
        "reward": torch.zeros(80, 1),
        "is_first": flag.roll(1, 0),
        "is_last": flag,
        "is_terminal": flag,
    }
    state = {"records": records, "streams": {"rows": 50, "written": [40, 40]}}
    torch.save(state, tmp_path / "replay.pt")
    return tmp_path


def test_auc_is_the_share_of_pairs_in_the_right_order(foresight) -> None:
    deaths, others = torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.5])
    assert foresight.auc(deaths, others) == pytest.approx(0.75)
    assert foresight.auc(others, others) == pytest.approx(0.5)


@pytest.mark.parametrize("sampling", ["uniform", "error", "deaths"])
def test_no_window_shows_a_record_of_the_test(foresight, checkpoint: Path, sampling: str) -> None:
    windows = foresight.Windows(checkpoint, train=50, test=20)
    seen = torch.cat([windows.draw(8, 5, sampling)[0]["pixels"].flatten() for _ in range(30)])
    assert int(seen.max()) == 24  # 25 records of each stream
    assert int(seen.min()) == 0


TINY = [
    "size=debug", "env=counting", "env.num_actions=2", "env.image_size=16", "batch_size=2",
    "batch_length=4", "device=cpu", "precision=fp32",
    "optimizer.lr={world_model: 1e-3, actor: 1e-4, critic: 1e-4}",
]  # fmt: skip


@pytest.mark.slow
def test_every_candidate_learns(foresight, checkpoint: Path) -> None:
    for name, candidate in foresight.CANDIDATES.items():
        own = [word for word in candidate.options if not word.startswith("batch_")]  # those are large
        windows = foresight.Windows(checkpoint, train=50, test=20)
        world_model, _ = foresight.learn(windows, compose_default(TINY + own), candidate, updates=1)
        assert all(torch.isfinite(weight).all() for weight in world_model.parameters()), name


def test_draws_of_the_prior_are_averaged(
    foresight, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose_default(TINY)
    world_model = build.make_agent(cfg, build.make_env(cfg, 1, 0)).world_model
    monkeypatch.setattr(world_model, "predict", lambda posterior: posterior)  # every draw alike
    records, _, _ = foresight.Windows(checkpoint, train=50, test=20).draw(2, 4, "uniform")
    losses, _ = foresight.CANDIDATES["prior_heads_4_draws"].loss(world_model)(records)
    torch.testing.assert_close(losses["loss_prior"], losses["loss_reward"] + losses["loss_cont"])


def test_a_world_model_learns_and_is_asked(foresight, checkpoint: Path) -> None:
    cfg = compose_default(TINY)
    windows = foresight.Windows(checkpoint, train=50, test=20)
    candidate = foresight.CANDIDATES["error_sampling"]
    world_model, _ = foresight.learn(windows, cfg, candidate, updates=2)
    answers = foresight.ask(world_model, windows, gamma=0.99)
    assert answers["deaths"] == 2.0 and 0 <= answers["auc"] <= 1 and 0 < answers["error_all"] < 1
    assert float(windows.visits.sum()) == 4.0


def test_windows_of_deaths_weigh_as_if_drawn_uniformly(foresight, checkpoint: Path) -> None:
    torch.manual_seed(0)
    windows = foresight.Windows(checkpoint, train=50, test=20)  # 21 starts, 2 end at a death
    records, _, _ = windows.draw(20_000, 5, "deaths")
    ends, weight = records["is_terminal"][:, -1, 0].float(), records["weight"][:, 0]
    assert float(ends.mean()) == pytest.approx(0.25 + 0.75 * 2 / 21, abs=0.02)
    assert float((ends * weight).mean()) == pytest.approx(2 / 21, abs=0.01)
    assert float(weight.mean()) == pytest.approx(1.0, abs=0.02)


def test_too_few_records_are_refused_with_their_number(foresight, checkpoint: Path) -> None:
    with pytest.raises(SystemExit, match=r"at least 45 of each stream; it has \[40, 40\]"):
        foresight.Windows(checkpoint, train=50, test=40)


def test_scrolling_is_no_change_and_a_new_thing_is(foresight) -> None:
    torch.manual_seed(0)
    world = torch.rand(3, 16, 40)
    frame = torch.stack([world[..., 2 * t : 2 * t + 32] for t in range(3)])[None]
    from foresight_candidates import changed

    assert float(changed(frame).sum()) == 0.0
    frame[0, 2, :, 4:6, 4:6] = 5.0
    assert float(changed(frame)[0, 2].sum()) == 4.0
    assert float(changed(frame)[0, 1].sum()) == 0.0


def test_a_copy_outside_of_git_keeps_what_it_measured(
    foresight, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    cfg = OmegaConf.create({"loss": {"discount": {"gamma": 0.99}}})
    monkeypatch.setattr(foresight, "HERE", tmp_path)
    monkeypatch.setattr(foresight, "stored_config", lambda _: cfg)
    monkeypatch.setattr(foresight, "learn", lambda *_: (None, 1.0))
    monkeypatch.setattr(foresight, "ask", lambda *_: {"auc": 0.5})
    monkeypatch.setattr(foresight, "provenance", dict)
    typed = ["foresight.py", str(checkpoint), "--try", "recipe", "--train", "50", "--test", "20"]
    monkeypatch.setattr(sys, "argv", typed)
    foresight.main()
    lines = (tmp_path / "results" / "foresight.csv").read_text().splitlines()
    assert lines[1] == "recipe,0,800,1.0,0.5,unknown"
