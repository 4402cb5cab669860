from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import Silence, make_tiny

from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.training.evaluation import episode_ends
from mario_dreamer.training.report import Report, episode_metrics


def mario_end(score: float, flag: bool, x: float) -> TensorDict:
    """A transition [1, 1] that ends an episode as Mario's env reports it."""
    one = torch.ones(1, 1, 1)
    stats = {
        "done": one.bool(), "terminated": one.bool(), "episode_reward": one * score,
        "step_count": (one * 40).long(), "flag": one.bool() if flag else ~one.bool(),
        "x_max": one * x, "x_pos": one * x, "time": one * 300, "coins": one, "score": one * 200,
    }  # fmt: skip
    return TensorDict({"next": TensorDict(stats, [1, 1])}, [1, 1])


def test_an_episode_is_logged_as_soon_as_it_ends() -> None:
    tracker = Silence()
    report = Report(tracker)
    report.played(episode_ends(mario_end(100.0, False, 700.0)), 40)
    (step, shown), = tracker.shown
    assert step == 40
    assert shown["train_return"] == shown["play/return"] == 100.0
    assert shown["play/x_max"] == 700.0 and shown["play/time_left"] == 300.0
    assert undocumented(shown) == []


def test_means_flags_and_records_are_kept_over_the_last_episodes() -> None:
    report = Report(Silence(), action_repeat=4, window=2)
    for score, flag, x in ((1.0, True, 3161.0), (2.0, False, 10.0), (4.0, True, 3161.0)):
        report.played(episode_ends(mario_end(score, flag, x)), 120)
    stats = report.stats(120)
    assert stats["run/episodes"] == 3 and stats["run/frames"] == 480
    assert stats["play/return_mean"] == 3.0 and stats["play/flag_rate"] == 0.5
    assert stats["play/flags"] == 2 and stats["play/x_best"] == 3161.0
    assert undocumented(stats) == []


def test_metrics_of_an_update_have_documented_names() -> None:
    tiny = make_tiny().fill()
    report = Report(Silence(), replay_size=tiny.replay.__len__)
    metrics = tiny.learner.update(tiny.replay.sample())
    metrics.pop("posterior")
    report.learned(metrics, 48)
    shown = report.log(48)
    assert undocumented(shown) == []
    world_model = ("recon", "reward", "cont", "dyn", "rep")
    assert shown["model_loss"] == pytest.approx(sum(shown[f"train/loss_{x}"] for x in world_model))
    assert shown["actor_loss"] == pytest.approx(float(metrics["loss_actor"]))
    critic = float(metrics["loss_critic"]) + float(metrics["loss_critic_replay"])
    assert shown["value_loss"] == pytest.approx(critic)
    assert shown["kl"] == shown["train/kl"] == pytest.approx(float(metrics["kl"]))
    assert shown["train/lr"] == pytest.approx(0.001) and 0 <= shown["train/clipped"] <= 1
    assert shown["train/grad_norm"] > shown["train/grad_norm_actor"] > 0
    assert shown["train/loss_total"] == pytest.approx(float(metrics["total"]))
    assert shown["dream/return_scale"] == 1.0
    lost = set(metrics.keys()) - {name.split("/")[-1] for name in shown} - {"total"}
    assert lost == set(), "a metric of the learner that the table does not know is lost silently"


def test_an_undocumented_metric_keeps_its_own_name() -> None:
    report = Report(Silence())
    report.learned({"loss_mine": torch.tensor(2.0), "spread": torch.tensor([1.0, 3.0])}, 8)
    shown = report.log(8)
    assert shown["loss_mine"] == 2.0 and shown["spread"] == 2.0


def test_several_stages_have_flag_rates_of_their_own() -> None:
    report = Report(Silence(), window=2)
    ends = [(1.0, 1.0, True), (1.0, 2.0, False), (1.0, 2.0, True), (1.0, 1.0, True)]
    for world, stage, flag in ends:
        end = mario_end(1.0, flag, 10.0)
        one = torch.ones(1, 1, 1)
        end["next"].update({"world": one * world, "stage": one * stage})
        report.played(episode_ends(end), 40)
    shown = report.log(40)
    assert shown["play/1-1/flag_rate"] == 1.0 and shown["play/1-2/flag_rate"] == 0.5
    later = Report(Silence(), window=2)
    later.load_state_dict(report.state_dict())
    assert later.log(40)["play/1-2/flag_rate"] == 0.5
    assert undocumented(shown) == []


def test_replay_ratio_and_watched_values_are_logged() -> None:
    scale = torch.tensor(0.5)
    report = Report(Silence(), records_per_update=15, watched={"play/entropy_scale": scale})
    for _ in range(4):
        report.learned({}, 30)
    scale.fill_(0.25)
    shown = report.log(30)
    assert shown["run/replay_ratio"] == 2.0 and shown["play/entropy_scale"] == 0.25


def test_counters_go_on_after_a_resume() -> None:
    one, two = Report(Silence()), Report(Silence())
    one.played(episode_ends(mario_end(5.0, True, 3161.0)), 40)
    one.learned({}, 40)
    two.load_state_dict(one.state_dict())
    assert two.progress.stats.groups()["episodes"] == "1"
    two.played(episode_ends(mario_end(7.0, False, 20.0)), 80)
    stats = two.stats(80)
    assert stats["run/episodes"] == 2 and stats["play/flags"] == 1 and stats["run/updates"] == 1
    assert stats["play/return_mean"] == 6.0 and stats["play/x_best"] == 3161.0
    shown = two.progress.stats.groups()
    assert [shown[name] for name in ("episodes", "flags", "best x")] == ["2", "1", "3,161"]
    assert shown["last 5 returns"] == "7"  # of this process


def test_speed_counts_from_the_resume_and_not_from_zero() -> None:
    report = Report(Silence(), records_per_update=15)
    report.played(episode_ends(mario_end(5.0, True, 3161.0)), 1_000_001, 1)
    report.learned({}, 1_000_001)
    assert report.stats(1_000_001)["run/replay_ratio"] == 15.0


def test_statistics_without_a_name_in_the_table_are_left_out() -> None:
    assert episode_metrics({"return": 1.0, "world": 1.0, "flag": 0.0}) == {
        "play/return": 1.0, "play/flag": 0.0,
    }  # fmt: skip
