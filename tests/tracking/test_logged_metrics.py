"""The table of metrics equals what a run logs, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from mario_dreamer.commands.train import run_training
from mario_dreamer.config import compose
from mario_dreamer.tracking.files import read_metrics
from mario_dreamer.tracking.metrics import METRICS, describe, undocumented
from mario_dreamer.tracking.system import system_metrics

SHORT = [
    "experiment=laptop", "env.stage=[1-1,1-2]", "env.image_size=16", "env.max_steps=8",
    "env.stall_limit=null", "size=debug", "encoder=cnn_strided", "decoder=cnn_strided",
    "replay.capacity=400", "batch_size=2", "batch_length=4", "imag_horizon=2",
    "imagination_starts=null", "collector.num_envs=1", "collector.eval_envs=1",
    "collector.steps_per_env=8", "prefill=0", "train_ratio=1", "train_ratio_before_flag=null",
    "steps=64", "log_every=32", "eval_every=64", "eval_episodes=2", "save_every=64", "tracker=none", "device=cpu",
    "precision=fp32", "threads=1", "save_model=false",
    "loss.world_model.beta_prior=1.0",
]  # fmt: skip
# Logged by other commands, with other collectors, only on a GPU, or of envs that report statistics
# of their own.
ELSEWHERE = ("evaluate/", "report/", "speed/policy_age", "run/gpu_", "system/gpu_")


@pytest.mark.rom
def test_the_table_of_metrics_equals_what_a_mario_run_logs(tmp_path: Path) -> None:
    cfg = compose.compose_default([*SHORT, f"runs_dir={tmp_path}", "name=short"])
    assert run_training(cfg)["status"] == "FINISHED"
    logged = {*read_metrics(tmp_path / "short"), *system_metrics(tmp_path)}
    assert undocumented(logged) == [], "logged, but not in the table"
    rows = {describe(name).name for name in logged}
    table = {name for name in METRICS if not (name.startswith(ELSEWHERE) or "/stats/" in name)}
    assert table - rows == set(), "in the table, but never logged"
