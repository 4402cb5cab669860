"""mario-dreamer evaluate: how good is a checkpoint?

    mario-dreamer evaluate                                   100 episodes of each kind
    mario-dreamer evaluate episodes=20 out=report            quicker; results in a folder
    mario-dreamer evaluate actions=[sampled] random_noops=[30] sticky=[0.25]

Plays sampled and greedy actions, from the plain start and after random no-ops, with and
without sticky actions; prints success with its Wilson 95 % interval, and writes results.json
and the action lists of episodes, which `mario-dreamer replay FILE` verifies in the emulator.

Options: checkpoint, episodes, num_envs, actions, random_noops, sticky, max_steps, out, seed,
device, env.*; see configs/evaluate.yaml.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mario_dreamer import launch
from mario_dreamer.session import Session, open_session
from mario_dreamer.training.evaluation import Episode, play_episodes, summarise

__all__ = ["main"]

COLUMNS = (
    ("flag_rate", "flag"), ("flag_low", "low"), ("flag_high", "high"), ("return", "return"),
    ("length", "steps"), ("x_max", "mean x"), ("x_max_best", "best x"),
)  # fmt: skip


def _conditions(cfg: DictConfig, is_mario: bool) -> list[dict[str, Any]]:
    """Every combination that is asked for; only Mario's worlds have no-ops and sticky actions."""
    noops = list(cfg.random_noops) if is_mario else [0]
    sticky = list(cfg.sticky) if is_mario else [0.0]
    unknown = set(cfg.actions) - {"sampled", "greedy"}
    if unknown:
        raise ValueError(f"actions={sorted(unknown)}: expected sampled or greedy.")
    return [
        {"actions": actions, "random_noops": n, "sticky": s}
        for actions, n, s in itertools.product(cfg.actions, noops, sticky)
    ]


def _line(cells: list[str]) -> str:
    return "  ".join(f"{cell:>8}" for cell in cells)


def save_actions(path: Path, session: Session, episode: Episode, changes: dict[str, Any]) -> None:
    """Write an episode so that anyone can play it again: world, options, actions, outcome."""
    env = OmegaConf.to_container(session.cfg.env, resolve=True) | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"env": env, "actions": episode.actions, "facts": episode.facts}))


def _save(out: Path, session: Session, kind: str, episodes: list[Episode], changes: dict) -> None:
    best = sorted(
        episodes, key=lambda e: (e.facts.get("flag", 0), e.facts["return"]), reverse=True
    )
    # Chance at the start or in the actions cannot be played again from an action list alone.
    if not any(changes.values()):
        for number, episode in enumerate(best[: session.cfg.get("save_episodes", 3)]):
            save_actions(out / f"{kind}-{number}.json", session, episode, changes)


@hydra.main(version_base="1.3", config_path=launch.CONFIGS, config_name="evaluate")
@launch.entry_point
def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    session = open_session(cfg, num_envs=1)
    is_mario = "random_noops" in session.cfg.env
    session.env.close()
    out = Path(cfg.out or "evaluation")
    print(f"checkpoint: {session.checkpoint}; {cfg.episodes} episodes of each kind")
    print(_line(["actions", "no-ops", "sticky", *(title for _, title in COLUMNS)]))
    results = []
    for condition in _conditions(cfg, is_mario):
        changes = {key: condition[key] for key in ("random_noops", "sticky")} if is_mario else {}
        session = open_session(cfg, min(cfg.num_envs, cfg.episodes), **changes)
        greedy = condition["actions"] == "greedy"
        episodes = play_episodes(
            session.policy, session.env, cfg.episodes, greedy, max_steps=cfg.max_steps
        )
        session.env.close()
        summary = summarise(episodes)
        kind = f"{condition['actions']}-noops{condition['random_noops']}-sticky{condition['sticky']}"
        _save(out, session, kind, episodes, changes)
        facts = [episode.facts for episode in episodes]
        results.append({**condition, "summary": summary, "episodes": facts})
        cells = [f"{summary[key]:.2f}" if key in summary else "-" for key, _ in COLUMNS]
        print(_line([condition["actions"], str(condition["random_noops"]),
                     str(condition["sticky"]), *cells]), flush=True)  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    report = {"checkpoint": str(session.checkpoint), "seed": cfg.seed, "results": results}
    (out / "results.json").write_text(json.dumps(report, indent=1))
    print(f"written: {out / 'results.json'}")


if __name__ == "__main__":
    main()
