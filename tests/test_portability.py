"""The package starts and trains without what only Unix has, and without the emulator.

Simulated on the machine at hand, in one process: the names are taken away before anything else is
imported. psutil is imported before: it has another file for each operating system, and this
machine's needs them.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import os, signal, sys
import psutil

for name in ("fcntl", "resource", "termios", "gym_super_mario_bros", "nes_py"):
    sys.modules[name] = None
for module, names in {
    os: ("sched_getaffinity", "fork", "getuid", "mkfifo"),
    signal: ("SIGHUP", "SIGKILL"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
os.process_cpu_count = os.cpu_count  # as Python has it where sched_getaffinity is not

import importlib, pkgutil
import torchrl.modules, torchrl.objectives

before = set(sys.modules)
import mario_dreamer.losses

print("with the losses:", *sorted(set(sys.modules) - before))
names = [module.name for module in pkgutil.walk_packages(mario_dreamer.__path__, "mario_dreamer.")]
names.remove("mario_dreamer.__main__")
for name in names:
    importlib.import_module(name)
print("imported:", len(names))
[getattr(mario_dreamer, name) for name in mario_dreamer.__all__]
try:
    mario_dreamer.make_mario_env(num_envs=1)
except ImportError as error:
    print("without the emulator:", error, flush=True)
importlib.import_module("mario_dreamer.cli").main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a process without Unix calls and emulator imported everything and trained."""
    folder = tmp_path_factory.mktemp("portability")
    words = [
        "experiment=debug", "tracker=csv", "name=a", "device=cpu", "threads=1", "batch_size=2",
        "batch_length=6", "imag_horizon=2", "env.image_size=16", "train_ratio=2", "steps=32",
        "log_every=16", "eval_every=32", "eval_episodes=1", "save_every=32", "collector.num_envs=2",
    ]  # fmt: skip
    env = {**os.environ, "USERNAME": "somebody"}  # as on Windows, instead of a user's number
    call = [sys.executable, "-c", PROGRAM, "train", *words]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    (folder / "out.txt").write_text(done.stdout)
    (folder / "err.txt").write_text(f"exit code {done.returncode}\n{done.stderr}")
    return folder


def test_no_process_is_looked_for_with_os_kill() -> None:
    files = (ROOT / "mario_dreamer").rglob("*.py")  # on Windows os.kill(pid, 0) ends the process
    assert [path.name for path in files if "os.kill(" in path.read_text(encoding="utf-8")] == []


def test_no_file_is_opened_twice_that_windows_opens_once() -> None:
    files = (ROOT / "mario_dreamer").rglob("*.py")
    assert [p.name for p in files if "NamedTemporaryFile" in p.read_text(encoding="utf-8")] == []


def without_encoding(path: Path) -> list[str]:
    """Calls in a file that read or write text in the machine's own encoding."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        least = {"read_text": 1, "write_text": 2}.get(name)
        if least and len(node.args) < least and all(k.arg != "encoding" for k in node.keywords):
            found.append(f"{path.name}:{node.lineno}")
    return found


def test_text_files_are_utf8_everywhere() -> None:
    files = list((ROOT / "mario_dreamer").rglob("*.py"))
    assert [line for path in files for line in without_encoding(path)] == []


def printed(folder: Path, about: str) -> str:
    """What the process printed about something."""
    found = [line for line in (folder / "out.txt").read_text().splitlines() if about in line]
    assert found, (folder / "err.txt").read_text()[-2000:]
    return found[0].partition(about)[2]


def test_losses_import_without_agent_env_hydra_mlflow(folder: Path) -> None:
    modules = printed(folder, "with the losses: ").split()
    rooms = [f"mario_dreamer.{room}" for room in ("agent", "config", "envs", "replay", "training")]
    unwanted = ("hydra", "omegaconf", "mlflow", *rooms)
    assert "mario_dreamer.losses.targets" in modules
    assert [module for module in modules if module.startswith(unwanted)] == []


def test_every_module_is_imported_without_unix_calls(folder: Path) -> None:
    assert int(printed(folder, "imported: ")) > 100


def test_mario_without_the_emulator_says_what_to_install(folder: Path) -> None:
    assert "pip install" in printed(folder, "without the emulator: ")


def test_training_ends_finished_without_unix_calls(folder: Path) -> None:
    errors = (folder / "err.txt").read_text()
    assert errors.startswith("exit code 0\n") and "not one update" not in errors, errors[-2000:]
    assert json.loads((folder / "runs/a/run.json").read_text())["status"] == "FINISHED"
    assert (folder / "runs/a/checkpoints").is_dir() and (folder / "runs/a/metrics.csv").is_file()
