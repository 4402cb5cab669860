"""Does the agent learn? Four worlds with a known answer, one question each.

    python benchmarks/known_worlds.py --seeds 0 1 2 --out known_worlds_202611     train, judge, draw
    python benchmarks/known_worlds.py --worlds memory --seeds 0 --folder runs     one world
    python benchmarks/known_worlds.py --draw known_worlds_202611                  draw again

    corridor   find the reward at all          (experiment=corridor)
    delayed    carry credit over 13 steps      (experiment=delayed)
    memory     carry a cue through the dark    (experiment=memory)
    cartpole   learn from numbers, not pixels  (experiment=cartpole)

Each run is one `mario-dreamer train experiment=...` on one thread; a run that is there already is
not trained again. Its last checkpoint then plays EPISODES episodes with sampled actions. The agent
of `memory` plays them once more with its state wiped before each frame: it must fall to 0.5, the
best that can be done without a memory, since the frame that asks is the same for both colours.
Writes benchmarks/results/<out>.csv (one line per training episode), <out>_verdicts.csv (one line
per run), <out>.md, and figures/<out>.png.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plot
import torch
from omegaconf import OmegaConf
from result_tables import markdown, write_rows
from run_script import run_script
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.reporting.history import History, read_history
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.training.evaluation import play_episodes

HERE = Path(__file__).resolve().parent
EPISODES = 100
WINDOW = 20  # episodes in the running mean


@dataclass(frozen=True)
class World:
    """A world whose answer is known.

    Args:
        best: mean return of the best policy.
        naive: mean return of the best policy without what the world asks for: a random one, for
            `memory` the best without a memory.
        bar: mean return from which on it counts as learned.
    """

    best: float
    naive: float
    bar: float


WORLDS = {  # by the name of its experiment
    "corridor": World(best=1.0, naive=0.22, bar=0.95),
    "delayed": World(best=1.0, naive=0.5, bar=0.95),
    "memory": World(best=1.0, naive=0.5, bar=0.95),
    "cartpole": World(best=500.0, naive=22.0, bar=450.0),
}


class Wiped(TensorDictModuleBase):
    """Play without a past: to `policy`, every frame is the first of its episode.

    Args:
        policy: reads `is_init`, and forgets h, z and the last action where it is true.
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        self.policy = policy
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Choose actions for the frames in `tensordict`, [N]."""
        tensordict["is_init"] = torch.ones_like(tensordict["is_init"])
        return self.policy(tensordict)


def train(world: str, seed: int, folder: Path, *overrides: str) -> Path:
    """Train a world's experiment with one seed, unless it is there; return the run's folder."""
    run = folder / f"known-{world}-{seed}"
    if (run / "checkpoints").is_dir() and read_history(run).info.get("status") == "FINISHED":
        return run
    words = [f"experiment={world}", f"seed={seed}", "threads=1", "tracker=none"]
    words += ["device=cpu", f"runs_dir={folder}", f"name={run.name}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mario_dreamer", "train", *words]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return run


def judge(run: Path, episodes: int = EPISODES, wiped: bool = False, seed: int = 1) -> float:
    """Return the mean return of a run's last checkpoint over whole episodes, actions sampled.

    Args:
        run: its folder.
        episodes: how many.
        wiped: wipe the agent's state before each frame.
        seed: of the worlds and of the agent's chances; not a training seed's worlds.
    """
    cfg = OmegaConf.create(
        {"checkpoint": str(run), "runs_dir": str(run.parent), "trust_config": False,
         "device": "cpu", "precision": "fp32", "threads": 1, "seed": 20_000 + seed, "env": {}}
    )  # fmt: skip
    agent = agent_of(cfg)
    env = agent.make_env(min(20, episodes), cfg.seed)
    played = play_episodes(Wiped(agent.policy) if wiped else agent.policy, env, episodes)
    env.close()
    return float(np.mean([episode.stats["return"] for episode in played]))


def steps_to(history: History, bar: float) -> int | None:
    """Agent steps after which the mean of the last WINDOW training episodes first was `bar`."""
    for i in range(WINDOW, len(history.episodes) + 1):
        recent = [episode["return"] for episode in history.episodes[i - WINDOW : i]]
        if sum(recent) / WINDOW >= bar:
            return int(history.episodes[i - 1]["step"])
    return None


def verdict(world: str, seed: int, run: Path) -> dict[str, Any]:
    """What a run has shown, as one row."""
    known, history = WORLDS[world], read_history(run)
    recent = [episode["return"] for episode in history.episodes[-WINDOW:]]
    played = judge(run)
    return {
        "world": world, "seed": seed, "best": known.best, "naive": known.naive, "bar": known.bar,
        "evaluated": round(played, 3), "last_20_training": round(float(np.mean(recent)), 3),
        "steps_to_bar": steps_to(history, known.bar) or "",
        "steps": int(history.config["steps"]), "updates": int(history.last("run/updates") or 0),
        "minutes": round(history.reports[-1]["hours"] * 60, 1),
        "wiped": round(judge(run, wiped=True), 3) if world == "memory" else "",
    }  # fmt: skip


def describe(out: str, note: str, rows: list[dict[str, Any]], runs: list[Path]) -> str:
    """Write the .md next to the CSVs: the table, then where the numbers come from."""
    here = provenance()
    lines = [f"# {out}", "", note, ""] if note else [f"# {out}", ""]
    lines += [*markdown(rows), "", f"Evaluated: {EPISODES} episodes of the last checkpoint, actions sampled.", ""]
    lines += [f"- date: {time.strftime('%Y-%m-%d')}", f"- collected by: {here['command']}"]
    for run in runs:
        facts = read_history(run).info
        lines += ["", f"## {run.name}", "", f"- status: {facts.get('status', 'unknown')}"]
        lines += [f"- {name}: {value}" for name, value in facts.get("tags", {}).items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="*", choices=sorted(WORLDS), default=list(WORLDS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where the runs go")
    parser.add_argument("--out", help="name of the result, without ending")
    parser.add_argument("--note", default="", help="a remark for the .md")
    parser.add_argument("--draw", metavar="NAME", help="only draw this result again")
    arguments = parser.parse_args()
    if arguments.draw:
        print(plot.known(arguments.draw))
        return
    verdicts, episodes, runs = [], [], []
    for world in arguments.worlds:
        for seed in arguments.seeds:
            runs.append(train(world, seed, arguments.folder))
            verdicts.append(verdict(world, seed, runs[-1]))
            print(verdicts[-1], flush=True)
            for episode in read_history(runs[-1]).episodes:
                place = {"world": world, "seed": seed, "step": int(episode["step"])}
                place["hours"] = round(episode["hours"], 4)
                episodes.append({**place, "return": episode["return"]})
    if arguments.out:
        results = HERE / "results"
        write_rows(results / f"{arguments.out}.csv", episodes)
        write_rows(results / f"{arguments.out}_verdicts.csv", verdicts)
        told = describe(arguments.out, arguments.note, verdicts, runs)
        (results / f"{arguments.out}.md").write_text(told)
        print(plot.known(arguments.out))


if __name__ == "__main__":
    run_script(main)
