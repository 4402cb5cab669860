from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import Silence, make_tiny

from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.training.report import Report, episode_metrics


def mario_end(score: float, flag: bool, x: float) -> TensorDict:
    """A transition [1, 1] that ends an episode as Mario's world tells it."""
    one = torch.ones(1, 1, 1)
    facts = {
        "done": one.bool(), "terminated": one.bool(), "episode_reward": one * score,
        "step_count": (one * 40).long(), "flag": one.bool() if flag else ~one.bool(),
        "x_max": one * x, "x_pos": one * x, "time": one * 300, "coins": one, "score": one * 200,
    }  # fmt: skip
    return TensorDict({"next": TensorDict(facts, [1, 1])}, [1, 1])


def test_an_episode_is_told_as_soon_as_it_ends() -> None:
    tracker = Silence()
    report = Report(tracker)
    report.played(mario_end(100.0, False, 700.0), 40)
    (step, told), = tracker.told
    assert step == 40
    assert told["train_return"] == told["play/return"] == 100.0
    assert told["play/x_max"] == 700.0 and told["play/time_left"] == 300.0
    assert undocumented(told) == []


def test_means_flags_and_records_are_kept_over_the_last_episodes() -> None:
    report = Report(Silence(), action_repeat=4, window=2)
    for score, flag, x in ((1.0, True, 3161.0), (2.0, False, 10.0), (4.0, True, 3161.0)):
        report.played(mario_end(score, flag, x), 120)
    facts = report.facts(120)
    assert facts["run/episodes"] == 3 and facts["run/frames"] == 480
    assert facts["play/return_mean"] == 3.0 and facts["play/flag_rate"] == 0.5
    assert facts["play/flags"] == 2 and facts["play/x_best"] == 3161.0
    assert undocumented(facts) == []


def test_what_an_update_measures_is_told_under_documented_names() -> None:
    tiny = make_tiny().fill()
    report = Report(Silence(), replay_size=tiny.replay.__len__)
    metrics = tiny.learner.update(tiny.replay.sample())
    metrics.pop("posterior")
    report.learned(metrics, 48)
    told = report.log(48)
    assert undocumented(told) == []
    for name in ("model_loss", "actor_loss", "value_loss", "kl"):
        assert told[name] == pytest.approx(float(metrics[name]))
    assert told["train/loss_total"] == pytest.approx(float(metrics["total"]))
    assert told["dream/return_scale"] == 1.0
    lost = set(metrics.keys()) - {name.split("/")[-1] for name in told} - {"total"}
    assert lost == set(), "a metric of the learner that the table does not know is lost silently"


def test_counters_go_on_after_a_resume() -> None:
    one, two = Report(Silence()), Report(Silence())
    one.played(mario_end(5.0, True, 3161.0), 40)
    one.learned({}, 40)
    two.load_state_dict(one.state_dict())
    two.played(mario_end(7.0, False, 20.0), 80)
    facts = two.facts(80)
    assert facts["run/episodes"] == 2 and facts["play/flags"] == 1 and facts["run/updates"] == 1
    assert facts["play/return_mean"] == 6.0 and facts["play/x_best"] == 3161.0


def test_speed_counts_from_the_resume_and_not_from_zero() -> None:
    report = Report(Silence(), action_repeat=4)
    report.played(mario_end(5.0, True, 3161.0), 1_000_001)
    assert report._since[1] == 1_000_000


def test_facts_without_a_name_in_the_table_are_left_out() -> None:
    assert episode_metrics({"return": 1.0, "world": 1.0, "flag": 0.0}) == {
        "play/return": 1.0, "play/flag": 0.0,
    }  # fmt: skip
