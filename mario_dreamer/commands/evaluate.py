"""mario-dreamer evaluate: how good is a checkpoint?

    mario-dreamer evaluate                                   100 episodes of each condition
    mario-dreamer evaluate episodes=20 out=report            quicker; results in a folder
    mario-dreamer evaluate conditions=[sampled,greedy-noops-sticky]

A condition is `sampled` or `greedy` actions, with `-noops` after up to 30 random no-ops, with
`-sticky` with actions that stick at random. Prints success with its Wilson 95 % interval; writes
results.json, episodes.csv, evaluation.html with the pictures (best x, where Mario dies over the
map of the level), and the action lists of episodes that reached the flag, which
`mario-dreamer replay FILE` verifies in the emulator. MLflow gets all of it.

Options: checkpoint, episodes, num_envs, conditions, random_noops, sticky, max_steps, out,
save_episodes, track, tracking_uri, register, seed, device, env.*; see configs/evaluate.yaml.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mario_dreamer.commands._store import store_for
from mario_dreamer.config import build
from mario_dreamer.config.load_agent import LoadedAgent, agent_of
from mario_dreamer.envs.base import close_env
from mario_dreamer.reporting.evaluation_files import Condition, Evaluation, clear
from mario_dreamer.tracking.mlflow.results import log_results, recorded_run
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.training.checkpoint_files import run_of
from mario_dreamer.training.evaluation import play_episodes

NAMES = tuple(map("".join, product(("sampled", "greedy"), ("", "-noops"), ("", "-sticky"))))
TABLE = (
    ("flag_rate", "flag"), ("flag_low", "low"), ("flag_high", "high"), ("return", "return"),
    ("length", "steps"), ("x_max", "mean x"), ("x_max_best", "best x"),
)  # fmt: skip


def chosen_conditions(cfg: DictConfig, is_mario: bool) -> list[Condition]:
    """Return the conditions asked for; only Mario's env has no-ops and sticky actions.

    Args:
        cfg: with conditions ("all", one name or a list), random_noops and sticky.
        is_mario: whether the env takes no-ops and sticky actions.

    Raises:
        ValueError: for a name that is none.
    """
    asked = [cfg.conditions] if isinstance(cfg.conditions, str) else list(cfg.conditions)
    possible = NAMES if is_mario else ("sampled", "greedy")
    names = list(possible) if asked == ["all"] else list(dict.fromkeys(asked))
    unknown = [name for name in names if name not in possible]
    if unknown or not names:
        raise ValueError(
            f"conditions={asked}: expected all, or some of {', '.join(possible)}"
            f"{'' if is_mario else ' (this env has no no-ops or sticky actions)'}."
        )
    return [
        Condition(
            name,
            name.startswith("greedy"),
            int(cfg.random_noops) if "-noops" in name else 0,
            float(cfg.sticky) if "-sticky" in name else 0.0,
        )
        for name in names
    ]


def _line(first: str, cells: list[str]) -> str:
    return f"{first:<22}" + "".join(f"{cell:>9}" for cell in cells)


def _log(cfg: DictConfig, agent: LoadedAgent, evaluation: Evaluation, store: str) -> None:
    run = log_results(
        recorded_run(run_of(agent.checkpoint)), f"evaluate-{evaluation.name}",
        evaluation.metrics(), evaluation.agent_steps, [evaluation.out],
        f"evaluation/step_{evaluation.agent_steps:09d}",
        {"evaluated.checkpoint": str(agent.checkpoint), **evaluation.tags()}, store,
        register=cfg.register,
    )  # fmt: skip
    if run is not None:
        print(f"logged in MLflow, run {run}")


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    agent = agent_of(cfg)  # once: a run in training may replace its checkpoint meanwhile
    drawn = torch.get_rng_state()
    is_mario = "random_noops" in agent.cfg.env
    conditions = chosen_conditions(cfg, is_mario)
    store = store_for(cfg, agent.cfg, run_of(agent.checkpoint))  # before hours of play, not after
    Path(cfg.out).mkdir(parents=True, exist_ok=True)
    clear(Path(cfg.out))
    source = {**provenance(), "seed": str(cfg.seed), "agent_sha256": str(agent.sha256)}
    evaluation = Evaluation(
        Path(cfg.out), agent.checkpoint, agent.env_options, source, cfg.save_episodes,
        agent_steps=agent.steps or 0,
    )  # fmt: skip
    print(f"checkpoint: {agent.checkpoint}; {cfg.episodes} episodes of each condition")
    if agent.checkpoint is not None:
        print(f"agent step {agent.steps:,}, sha256 {str(agent.sha256)[:16]}")
    print(_line("condition", [title for _, title in TABLE]))
    for condition in conditions:
        changes: dict[str, Any] = agent.truncating(cfg.max_steps)
        if is_mario:
            changes |= {"random_noops": condition.random_noops, "sticky": condition.sticky}
        build.seed_everything(cfg.seed)
        env = agent.make_env(min(cfg.num_envs, cfg.episodes), cfg.seed, **changes)
        torch.set_rng_state(drawn)  # each condition begins from the same random state
        episodes = play_episodes(agent.policy, env, cfg.episodes, condition.greedy)
        close_env(env)
        summary = evaluation.add(condition, episodes)
        cells = [f"{summary[key]:.2f}" if key in summary else "-" for key, _ in TABLE]
        print(_line(condition.name, cells), flush=True)
    if evaluation.has_random_starts:
        print("note: episodes begin at random here; a saved action list does not repeat its episode")
    for path in evaluation.write():
        print(f"written: {path}")
    if store is not None:
        _log(cfg, agent, evaluation, store)
