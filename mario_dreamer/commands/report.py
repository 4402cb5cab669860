"""mario-dreamer report RUN: a run in one HTML file that opens without a network.

    mario-dreamer report                          the newest run: runs/NAME/report.html
    mario-dreamer report runs/NAME out=a.html     another run, another file
    mario-dreamer report runs/NAME episodes=0     only what the run has logged; seconds

Learning curves with the flag rate's interval, videos, furthest x, where Mario dies over the map of
each level, calibration of reward and value, open-loop error, latent usage, replay coverage, losses.
The newest checkpoint plays `episodes` for it. MLflow gets the file too.

Options: checkpoint (or RUN), out, episodes, max_steps, horizon, track, tracking_uri, seed,
device; see configs/report.yaml.
"""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.commands._store import store_for
from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.envs.base import close_env
from mario_dreamer.envs.mario.emulator import stages_of
from mario_dreamer.exporting.evaluated import find_results, read_results
from mario_dreamer.reporting.agent_sections import add_agent, add_summaries
from mario_dreamer.reporting.episodes import watch
from mario_dreamer.reporting.history import History, read_history
from mario_dreamer.reporting.page import Page
from mario_dreamer.reporting.run_sections import (
    add_coverage,
    add_head,
    add_learning,
    add_losses,
    add_videos,
    provenance_of,
)
from mario_dreamer.tracking.mlflow.results import log_results, recorded_run
from mario_dreamer.training.checkpoint_files import OWN_NAME, CheckpointError, find_run, run_of


def run_folder(where: str, runs_dir: str | Path) -> tuple[Path, Path | None]:
    """Find the folder of a run and its newest whole checkpoint, if it has one.

    Args:
        where: latest, a run's folder, or a checkpoint's folder.
        runs_dir: folder of the runs, for latest.

    Raises:
        ValueError: when there is no run.
    """
    if where == "latest":
        runs = sorted(Path(runs_dir).glob("*/metrics.jsonl"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise ValueError(
                f"no run in {Path(runs_dir).resolve()}. Train first, or name a run's folder: "
                "mario-dreamer report runs/NAME."
            )
        where = str(runs[-1].parent)
    if where in ("best", "shipped", "none", "auto"):
        raise ValueError(f"checkpoint={where}: a report is of a run. Give latest, or a run's folder.")
    path = Path(where)
    if OWN_NAME.fullmatch(path.name) and (run := run_of(path)):
        return run, find_run(where, runs_dir)
    try:
        return path, find_run(where, runs_dir)
    except CheckpointError as error:
        print(f"no checkpoint to play with, only the curves are drawn ({error})")
        return path, None


def _play(page: Page, cfg: DictConfig, checkpoint: Path, trained: list[float]) -> dict[str, float]:
    """Let the checkpoint play and draw what that shows; return numbers for the tracker."""
    cfg.checkpoint = str(checkpoint)
    num_envs = min(8, cfg.episodes)
    agent = agent_of(cfg)
    env = agent.make_env(num_envs, cfg.seed, **agent.truncating(cfg.max_steps))
    watched = watch(agent.policy, env, agent, cfg.episodes, cfg.max_steps)
    close_env(env)
    if not watched:
        print(f"no episode ended within max_steps={cfg.max_steps}")
        return {}
    options = agent.env_options
    stages = stages_of(options["stage"]) if "stage" in options else ()
    return add_agent(page, watched, agent, stages, trained, cfg.horizon, gamma=agent.gamma)


def _add_evaluation(page: Page, checkpoint: Path) -> None:
    """Show what `mario-dreamer evaluate` found for this checkpoint, where it was run."""
    file = find_results(checkpoint)
    if file is None:
        return
    summaries: dict[str, dict[str, float]] = {}
    for entry in read_results(file):
        condition = entry.get("name") or f"{entry['actions']}, {entry['random_noops']} no-ops"
        by_stage = entry.get("stages", {})
        stages = {f"{condition}, {stage}": summary for stage, summary in by_stage.items()}
        summaries |= {condition: entry["summary"], **stages}
    page.section(
        "Evaluation",
        "By mario-dreamer evaluate, with Wilson's 95 % intervals; healthy is a flag rate that "
        "random no-ops and sticky actions do not lower much.",
    )
    add_summaries(page, summaries.items())


def _log(store: str, folder: Path, path: Path, numbers: dict[str, float], step: int) -> None:
    names = ("live_classes", "value_bias", "open_loop_error")
    metrics = {f"report/{name}": numbers[name] for name in names if name in numbers}
    run = log_results(
        recorded_run(folder), f"report-{folder.name}", metrics, step, [path], "report",
        {"reported.run": str(folder)}, store,
    )  # fmt: skip
    if run is not None:
        print(f"logged in MLflow, run {run}")


def _intro(history: History, checkpoint: Path | None) -> str:
    experiment = history.config.get("experiment_name") or "a run"
    plays = f"; {checkpoint.name} plays" if checkpoint is not None else ""
    return f"{experiment}{plays}; written {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    began = time.monotonic()
    folder, checkpoint = run_folder(str(cfg.checkpoint), cfg.runs_dir)
    history = read_history(folder)
    store = store_for(cfg, OmegaConf.create(history.config), folder)
    page = Page(f"mario-dreamer: {history.name}", _intro(history, checkpoint))
    add_head(page, history)
    add_learning(page, history)
    add_videos(page, folder)
    add_coverage(page, history)
    numbers: dict[str, float] = {}
    if checkpoint is not None:
        _add_evaluation(page, checkpoint)
    if checkpoint is not None and cfg.episodes:
        trained = [e["x_max"] for e in history.episodes if "x_max" in e]
        numbers = _play(page, cfg, checkpoint, trained)
    add_losses(page, history)
    page.section("Provenance")
    page.info(provenance_of(history))
    path = page.write(Path(cfg.out) if cfg.out else folder / "report.html")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - began:.0f} s")
    if store is not None:
        _log(store, folder, path, numbers, int(history.last("run/agent_steps") or 0))
