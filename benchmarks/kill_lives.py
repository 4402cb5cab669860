"""A run's lives, for kills.py: how each begins, when it is killed, what it must have said."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_checks import Reference, rubbish
from kill_moments import MOMENTS, die_after

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import verify

SMALL = [
    "env.image_size=16", "batch_size=2", "batch_length=6", "imag_horizon=2", "train_ratio=6",
    "log_every=16", "save_every=32", "eval_every=64", "eval_episodes=1", "collector.eval_envs=1",
    "collector.steps_per_env=4", "replay.latents=true", "threads=1", "device=cpu",
    "precision=fp32", "tracker.system_seconds=1",
]  # fmt: skip
VARIANTS = {
    "toy": [
        "experiment=debug", *SMALL, "collector.num_envs=4", "steps=320", "save_model=false",
    ],
    "mario": [
        "experiment=mario_debug", *SMALL, "collector.num_envs=2", "steps=240", "prefill=32",
        "env.max_steps=20", "env.random_noops=8", "env.sticky=0.25", "save_model=false",
    ],
    # Each checkpoint with a program next to it, as is usual under MLflow: seconds more per life.
    "program": ["experiment=debug", *SMALL, "collector.num_envs=4", "steps=160"],
}  # fmt: skip
NAME = "killed"


@dataclass
class Round:
    """One run that is killed again and again.

    Args:
        variant: of `VARIANTS`.
        seed: of the run.
        folder: everything of the round lies in here.
        flush: seconds between two writes to MLflow.
        life: processes started so far.
        seconds: that the unbroken run took.
    """

    variant: str
    seed: int
    folder: Path
    flush: float
    life: int = 0
    seconds: float = 0.0

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def run(self) -> Path:
        return self.runs / NAME

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    def words(self) -> list[str]:
        """What is typed: a run that begins, or one that goes on."""
        if Checkpoints(self.run / "checkpoints").all():
            return ["resume=latest", f"runs_dir={self.runs}", self.uri]
        return self.fresh(self.runs, self.database, NAME)

    @property
    def uri(self) -> str:
        return f"tracker.tracking_uri=sqlite:///{self.database}"

    def fresh(self, runs: Path, database: Path, name: str) -> list[str]:
        """What is typed for a run that begins."""
        uri = f"tracker.tracking_uri=sqlite:///{database}"
        own = [f"seed={self.seed}", f"name={name}", f"runs_dir={runs}", uri]
        return [*VARIANTS[self.variant], *own, f"tracker.flush_seconds={self.flush}"]


def live(words: list[str], log: Path, sabotage: tuple[str, int, int] | None) -> int:
    """Train in a process forked off this one; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.stdout.reconfigure(line_buffering=True)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", force=True)
        if sabotage is not None:
            moment, number, seed = sabotage
            if moment == "anywhere":
                die_after(number / 1000)
            else:
                MOMENTS[moment](number, random.Random(seed))
        result = train.run_training(compose.compose_default(words), words)
        print(f"{result['status']}: {result['folder']}")
        code = 0
    except BaseException as error:  # noqa: BLE001 - the parent must not go on in here
        print(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        os._exit(code)


def command(words: list[str], log: Path) -> int:
    """Train by the command line; return its pid."""
    with log.open("w") as out:
        typed = [sys.executable, "-m", "mario_dreamer", "train", *words]
        # Its own process group, so that nothing of it can outlive the kill.
        process = subprocess.Popen(typed, stdout=out, stderr=out, start_new_session=True)
    return process.pid


def wait(pid: int, seconds: float) -> int | None:
    """Wait for a process; None when it is still there after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def damage(checkpoint: Path, rng: random.Random) -> str:
    """Break a checkpoint as a bad disk would; say how."""
    kind = rng.choice(("a bit flipped", "truncated", "a file gone", "no manifest"))
    file = checkpoint / f"{rng.choice(('agent', 'learning', 'replay'))}.pt"
    if kind == "a bit flipped":
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    elif kind == "truncated":
        os.truncate(file, rng.randrange(file.stat().st_size))
    elif kind == "a file gone":
        file.unlink()
    else:
        (checkpoint / "manifest.json").unlink()
    return f"{checkpoint.name}: {kind}"


def said(log: Path, wanted: str | None, damaged: list[str]) -> tuple[str, list[str]]:
    """Read what a life printed: where it went on from, and what is wrong with that."""
    text, wrong = log.read_text(), []
    match = re.search(r"run folder: .*\(agent step (\d+) of", text)
    if match is None:
        return "did not get there", wrong
    step = int(match[1])
    if step != (int(wanted[5:14]) if wanted else 0):
        wrong.append(f"went on from step {step}, the newest whole checkpoint is {wanted}")
    for name in damaged:
        if not re.search(f"skipping the damaged checkpoint .*{name}", text):
            wrong.append(f"did not name the damaged {name}")
    return f"step {step}", wrong


def one_life(turn: Round, rng: random.Random, reference: Reference) -> dict[str, Any] | None:
    """Let the run live once and kill it; None when it came through before."""
    turn.life += 1
    checkpoints = Checkpoints(turn.run / "checkpoints") if turn.run.exists() else None
    whole = [p for p in checkpoints.all() if verify(p) is None] if checkpoints else []
    broken = ""
    if len(whole) > 1 and rng.random() < 0.2:
        broken = damage(whole.pop(0), rng)
    wanted = whole[0].name if whole else None
    damaged = [p.name for p in checkpoints.all() if verify(p)] if checkpoints else []
    by_command = turn.life % 10 == 0 and not broken
    never = set() if damaged else {"while setting aside"}
    never |= set() if wanted else {"in the restore", "before the first step"}
    possible = [moment for moment in MOMENTS if moment not in never]
    moment = "anywhere" if by_command or rng.random() < 0.35 else rng.choice(possible)
    if turn.life == 1 and rng.random() < 0.5:
        moment = "before the run id is written"  # any later and there is nothing to lose
    elif broken and rng.random() < 0.5:
        moment = "while setting aside"
    number = rng.randint(1, 3)
    if moment == "anywhere":
        number = int(1000 * rng.uniform(0, turn.seconds + (15 if by_command else 0)))
    log = turn.folder / f"life_{turn.life:03d}.log"
    began = time.monotonic()
    if by_command:
        pid = command(turn.words(), log)
        code = wait(pid, number / 1000)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            code = wait(pid, 60)
    else:
        pid = live(turn.words(), log, (moment, number, rng.randrange(10**6)))
        code = wait(pid, 300)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"life {turn.life} of {turn.folder} hangs ({moment})")
    seconds = time.monotonic() - began
    resumed, wrong = said(log, wanted, damaged)
    if code != -signal.SIGKILL:
        if code != 0:
            raise RuntimeError(f"it ended with {code}: {log.read_text()[-2000:]}")
        if wrong:
            raise RuntimeError(f"{log}: {wrong}")
        return None
    wrong += reference.partial(turn.run, turn.database)
    left = rubbish(turn.run) if turn.run.exists() else []
    if len(left) > 4:
        wrong.append(f"temporary files pile up: {left}")
    now = Checkpoints(turn.run / "checkpoints").latest() if turn.run.exists() else None
    return {
        "variant": turn.variant, "seed": turn.seed, "life": turn.life,
        "started_by": "command" if by_command else "fork",
        "moment": f"{moment}" + ("" if moment == "anywhere" else f", call {number}"),
        "seconds": round(seconds, 2), "resumed_from": resumed,
        "saved_at_kill": now.name if now else "", "damaged_by_harness": broken,
        "temporary_files": len(left), "wrong": "; ".join(wrong),
    }  # fmt: skip
