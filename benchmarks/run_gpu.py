"""Train Mario on a GPU machine that has no network, for a given time; go on with the next call.

    python3 benchmarks/run_gpu.py --minutes 7 --out "$OUT"     (ten minutes are enough for all of it)

Installs the wheels that `carry_wheels.py` left in .whl into a folder of its own, then trains
`experiment=mario_1_1_gpu`, or resumes the run that is there; plays 100 sampled episodes with the
newest checkpoint; and leaves in --out: summary.md, curves.png, episode.mp4, train.log, and
results.tar.gz in parts of 15 MiB (`cat results.tar.gz.* | tar xz`) with the agent, halved, its
evaluation with action lists, all metrics and the curves' CSV. Replay and optimiser stay in the run
folder (runs/gpu, ignored by git), where the next call on the same machine finds them.

Everything after the options is typed to `mario-dreamer train`: steps=20000 seed=1 ...
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from run_script import run_script

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PART = 15 * 2**20  # bytes; files of at most 16 MiB come back from the GPU machine, 8 of them
SITE = Path(tempfile.gettempdir()) / "mario_dreamer_site"


def installed() -> bool:
    """Whether everything that the wheels bring is there already."""
    names = ("torchrl", "tensordict", "hydra", "gymnasium", "nes_py", "gym_super_mario_bros")
    return all(importlib.util.find_spec(name) is not None for name in names)


def install(wheels: Path) -> None:
    """Install a folder of wheels next to the machine's own packages, without a network."""
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        sys.exit(
            f"error: {wheels} holds no wheels. Run benchmarks/carry_wheels.py where there is a "
            "network, and carry that folder here."
        )
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--no-compile", "--no-cache-dir", "--upgrade", "--target", str(SITE), *found]
    subprocess.run(command, check=True)
    importlib.invalidate_caches()
    print(f"installed {len(found)} wheels in {SITE}", flush=True)


def command(name: str, *words: str, log: Path | None = None) -> int:
    """Run a sub-command of mario-dreamer; return its exit code.

    Args:
        name: train, evaluate, play.
        words: what is typed after it.
        log: a file that gets its output, of which the last lines are printed.
    """
    paths = [str(ROOT), str(SITE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    line = [sys.executable, "-m", "mario_dreamer", name, *words]
    print("$ mario-dreamer", name, *words, flush=True)
    if log is None:
        return subprocess.run(line, env=environment, cwd=ROOT, check=False).returncode
    with log.open("a") as file:
        code = subprocess.run(
            line, env=environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    print("\n".join(log.read_text(errors="replace").splitlines()[-12:]), flush=True)
    return code


def train(run: Path, args: argparse.Namespace, log: Path) -> int:
    """Begin the run, or go on with it, for so many minutes."""
    minutes = f"minutes={args.minutes}"
    if any(run.glob("checkpoints/step_*")):
        return command("train", f"resume={run}", minutes, *args.overrides, log=log)
    words = [f"experiment={args.experiment}", f"name={run.name}", f"runs_dir={run.parent}"]
    # MLflow is not carried: the run's own files hold all that it would log.
    return command("train", *words, "tracker=csv", minutes, *args.overrides, log=log)


def evaluate(run: Path, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Play sampled episodes with the newest checkpoint; return their summary, if there is one."""
    words = [f"checkpoint={run}", "conditions=[sampled]", f"episodes={args.episodes}"]
    words += [f"num_envs={args.worlds}", f"out={folder}", "track=false"]
    if command("evaluate", *words) != 0:
        return {}
    return json.loads((folder / "results.json").read_text())["results"][0]["summary"]


def draw(run: Path, folder: Path, name: str) -> Path | None:
    """Write the run's episodes as CSV and its curve as PNG, as `learning_curves.py` does."""
    sys.path[:0] = [str(HERE), str(ROOT)]
    import learning_curves
    import plot
    import result_tables

    from mario_dreamer.reporting.history import read_history

    history = read_history(run)
    if not history.episodes:
        return None
    result_tables.write_rows(folder / f"{name}.csv", learning_curves.rows_of(history))
    note = "benchmarks/run_gpu.py"
    (folder / f"{name}.md").write_text(learning_curves.describe(name, note, [history]))
    return plot.curves(name, results=folder, figures=folder)


def keep_agent(run: Path, folder: Path) -> str:
    """Copy the newest checkpoint's agent, halved, in a form that plays; return its steps."""
    import ship

    from mario_dreamer.training.checkpoint_files import find_run

    ship.LIMIT = float("inf")  # it goes into an archive, not into the package
    checkpoint = find_run(str(run), str(run.parent))
    ship.ship(checkpoint, folder / "agent")
    return checkpoint.name


def pack(folder: Path, out: Path) -> list[str]:
    """Write a folder as an archive in parts that come back from the GPU machine."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "results.tar.gz"
        with tarfile.open(whole, "w:gz", compresslevel=6) as archive:
            archive.add(folder, arcname="results")
        names = []
        with whole.open("rb") as file:
            while part := file.read(PART):
                names.append(f"results.tar.gz.{len(names):02d}")
                (out / names[-1]).write_bytes(part)
    return names


def collect(run: Path, args: argparse.Namespace, facts: dict[str, object]) -> None:
    """Evaluate, draw, film, pack; write the summary."""
    work = run / "brought"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if args.episodes:
        facts |= evaluate(run, args, work / "evaluation")
        command("play", f"checkpoint={run}", f"out={args.out / 'episode.mp4'}")
    curve = draw(run, work, args.experiment)
    facts["checkpoint"] = keep_agent(run, work)
    for name in ("metrics.jsonl", "metrics.csv", "config.yaml", "run.json"):
        if (run / name).is_file():
            shutil.copy(run / name, work / name)
    if curve is not None:
        shutil.copy(curve, args.out / "curves.png")
    (work / "summary.json").write_text(json.dumps(facts, indent=1))
    lines = ["# run_gpu.py", "", *(f"- {key}: {value}" for key, value in facts.items())]
    (args.out / "summary.md").write_text("\n".join(lines) + "\n")
    facts["parts"] = ", ".join(pack(work, args.out))
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))


def main() -> None:
    """Install, train, evaluate, pack; the exit code is the training's."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=7.0, help="of training in this call")
    parser.add_argument("--out", type=Path, required=True, help="folder of what comes back")
    parser.add_argument("--experiment", default="mario_1_1_gpu")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "gpu", help="folder of the run")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".whl")
    parser.add_argument("--episodes", type=int, default=100, help="of evaluation; 0: none")
    parser.add_argument("--worlds", type=int, default=32, help="side by side in the evaluation")
    args, args.overrides = parser.parse_known_args()
    wrong = [word for word in args.overrides if word.startswith("-") or "=" not in word]
    if wrong:
        parser.error(f"what is {' '.join(wrong)}? Options of the training look like steps=20000.")
    args.out, args.run = args.out.resolve(), args.run.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    SITE.mkdir(exist_ok=True)
    sys.path.insert(1, str(SITE))
    if not installed():
        install(args.wheels)
    began = time.monotonic()
    code = train(args.run, args, args.out / "train.log")
    facts: dict[str, object] = {
        "training exit code": code,
        "minutes in this call": round((time.monotonic() - began) / 60, 1),
        "run": str(args.run),
    }
    if not any(args.run.glob("checkpoints/step_*")):
        sys.exit(f"error: no checkpoint came of it (exit code {code}); see {args.out}/train.log")
    collect(args.run, args, facts)
    sys.exit(code)


if __name__ == "__main__":
    run_script(main)
