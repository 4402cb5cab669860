from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDictBase

from mario_dreamer.commands import replay as replay_actions
from mario_dreamer.commands.evaluate import chosen_conditions
from mario_dreamer.envs.mario.emulator import BUTTONS
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.exporting.evaluated import read_results
from mario_dreamer.reporting.evaluation_files import Condition, Evaluation, clear
from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.training.evaluation import Episode, play_episodes


def episode(score: float, flag: float = 0.0, **more: float) -> Episode:
    stats = {"return": score, "length": 3.0, "terminated": 1.0, "flag": flag, "x_max": score}
    return Episode(stats | {"x_pos": score, "time": 300.0} | more, [1, 2, 3], buttons=b"\x80\x80")


ENV = {"action_set": "simple", "stage": "1-1", "action_repeat": 4, "random_noops": 0, "sticky": 0.0}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Two conditions, written down; the map is left to the tests that have an emulator."""
    tmp_path = tmp_path_factory.mktemp("evaluation")
    checkpoint = tmp_path / "runs" / "mine" / "checkpoints" / "step_000000700"
    checkpoint.mkdir(parents=True)
    found = Evaluation(tmp_path / "out", checkpoint, ENV, {"seed": "0"}, 1, agent_steps=700)
    plain = [episode(10.0), episode(3161.0, 1.0), episode(3161.0, 1.0), episode(40.0)]
    found.add(Condition("sampled"), [Episode(e.stats, e.actions) for e in plain])
    found.add(Condition("greedy-sticky", True, 0, 0.25), plain[:1])
    found.write()
    return found


def test_results_say_who_played_what_and_how_well(evaluation: Evaluation) -> None:
    report = json.loads((evaluation.out / "results.json").read_text())
    assert (report["run"], report["agent_steps"], report["stage"]) == ("mine", 700, "1-1")
    first, second = report["results"]
    assert first["actions"] == "sampled" and second["actions"] == "greedy"
    assert first["summary"]["flag_rate"] == 0.5 and second["sticky"] == 0.25
    # Wilson, 2 of 4, by hand: centre 0.5, half-width 0.35
    assert first["summary"]["flag_low"] == pytest.approx(0.150, abs=1e-3)
    assert first["summary"]["flag_high"] == pytest.approx(0.850, abs=1e-3)
    assert len(first["episodes"]) == 4


def test_the_csv_has_a_line_for_each_episode(evaluation: Evaluation) -> None:
    with (evaluation.out / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["condition"] for row in rows] == ["sampled"] * 4 + ["greedy-sticky"]
    assert [row["ended"] for row in rows[:4]] == ["died", "flag", "flag", "died"]


def test_every_flag_is_saved_and_of_the_others_the_best(evaluation: Evaluation) -> None:
    names = sorted(path.name for path in evaluation.out.glob("*-*-*.json"))
    assert names == ["greedy-sticky-best-0.json", "sampled-flag-0.json", "sampled-flag-1.json"]
    plain = replay_actions.read_actions(evaluation.out / "sampled-flag-0.json")
    assert replay_actions.buttons_of(plain) == ([128, 129, 130], 4)
    by_random = replay_actions.read_actions(evaluation.out / "greedy-sticky-best-0.json")
    assert replay_actions.buttons_of(by_random) == ([128, 128], 1) and by_random["env"]["sticky"] == 0.25


def test_pictures_are_files_next_to_the_page(evaluation: Evaluation) -> None:
    page = (evaluation.out / "evaluation.html").read_text()
    assert "50 % [15, 85]" in page and "greedy-sticky" in page
    for name in ("x_max-sampled.svg", "return-greedy-sticky.svg"):
        assert "<svg" in (evaluation.out / name).read_text()
    assert (evaluation.out / "deaths-sampled.png").stat().st_size > 5000
    assert str(evaluation.out.parent) not in page, "no path of this machine"


def test_each_of_several_stages_has_numbers_of_its_own(tmp_path: Path) -> None:
    found = Evaluation(tmp_path, None, {**ENV, "stage": ["1-1", "1-2"]}, {})
    places = [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 2.0, 0.0)]  # world, stage, flag
    played = [episode(8.0, flag, world=world, stage=stage) for world, stage, flag in places]
    found.add(Condition("greedy"), [Episode(e.stats, e.actions) for e in played])
    numbers = found.metrics()
    assert numbers["evaluate/greedy/flag_rate"] == pytest.approx(1 / 3)
    assert numbers["evaluate/greedy/1-1/flag_rate"] == 0.5
    assert numbers["evaluate/greedy/1-2/flag_rate"] == 0
    assert undocumented(numbers) == []
    (entry,) = read_results(tmp_path / "results.json")
    assert entry["stages"]["1-1"]["episodes"] == 2 and set(entry["stages"]) == {"1-1", "1-2"}


def test_tracked_numbers_are_in_the_metric_table(evaluation: Evaluation) -> None:
    from mario_dreamer.tracking.metrics import METRICS

    metrics = evaluation.metrics()
    assert metrics["evaluate/sampled/flag_rate"] == 0.5
    for name in metrics:
        group, _, statistic = name.split("/")
        assert f"{group}/<condition>/{statistic}" in METRICS, name
    assert evaluation.tags()["evaluated.sampled"] == "50 % [15, 85] of 4 episodes"


def choose(**typed: object) -> list[Condition]:
    cfg = OmegaConf.create({"conditions": "all", "random_noops": 30, "sticky": 0.25} | typed)
    return chosen_conditions(cfg, is_mario=True)


def test_all_conditions_are_the_eight() -> None:
    found = choose()
    assert len({(c.greedy, c.random_noops, c.sticky) for c in found}) == 8
    assert {c.random_noops for c in found} == {0, 30} and {c.sticky for c in found} == {0.0, 0.25}


def test_a_condition_named_twice_is_played_once() -> None:
    cfg = OmegaConf.create({"conditions": ["greedy"] * 2, "random_noops": 30, "sticky": 0.25})
    assert [condition.name for condition in chosen_conditions(cfg, False)] == ["greedy"]


def test_conditions_are_chosen_by_name() -> None:
    (only,) = choose(conditions="greedy-noops", random_noops=7)
    assert only == Condition("greedy-noops", True, 7, 0.0)
    with pytest.raises(ValueError, match="expected all, or some of sampled, sampled-sticky"):
        choose(conditions=["lucky"])
    with pytest.raises(ValueError, match="this env has no no-ops"):
        chosen_conditions(
            OmegaConf.create({"conditions": ["sampled-noops"], "random_noops": 1, "sticky": 0.0}),
            is_mario=False,
        )


class Winner(torch.nn.Module):
    """A policy that knows the winning buttons of 1-1 by heart."""

    def __init__(self, actions: list[int], count: int) -> None:
        super().__init__()
        self.actions, self.count, self.step = actions, count, 0

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = torch.zeros(1, self.count, dtype=torch.int64)
        action[0, self.actions[self.step % len(self.actions)]] = 1
        self.step += 1
        return tensordict.set("action", action)


@pytest.mark.slow
@pytest.mark.rom
def test_a_win_is_saved_verified_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    buttons = [
        int(byte) for byte in np.load(Path(__file__).parents[1] / "envs" / "mario" / "win-1-1.npy")
    ]
    kinds = sorted(set(buttons))
    names = ["+".join(n for n, bit in BUTTONS.items() if kind & bit) or "noop" for kind in kinds]
    env = make_mario_env(num_envs=1, action_set=names, max_steps=3000)
    winner = Winner([kinds.index(byte) for byte in buttons], len(names))
    episodes = play_episodes(winner, env, 1)
    found = Evaluation(tmp_path, None, ENV | {"action_set": names}, {})
    summary = found.add(Condition("sampled"), episodes)
    assert summary["flag_rate"] == 1.0 and summary["x_max_best"] == 3161.0
    found.write()
    page = (tmp_path / "evaluation.html").read_text()
    assert "100 % [21, 100]" in page
    assert (tmp_path / "level_map.png").stat().st_size > 5000
    monkeypatch.setattr(sys, "argv", ["replay", str(tmp_path / "sampled-flag-0.json")])
    replay_actions.main()
    assert "VERIFIED" in capsys.readouterr().out


def test_what_another_evaluation_left_in_the_folder_goes_and_nothing_else(tmp_path: Path) -> None:
    left = ("sampled-flag-0.json", "greedy-noops-best-2.json", "deaths-sampled-1-1.png",
            "return-greedy.svg", "level_map-1-2.png")  # fmt: skip
    kept = ("results.json", "sampled.json", "my-best-0.json", "notes.txt")
    for name in (*left, *kept):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
