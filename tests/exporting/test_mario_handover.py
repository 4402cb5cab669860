"""The shipped agent, handed over: elsewhere it plays Mario as it does here. Run with -m slow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.commands.export import export_program
from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.envs.mario.buttons import action_names
from mario_dreamer.envs.mario.emulator import SCREEN, button_byte, copy_screen, make_emulator
from mario_dreamer.exporting.mlflow_model import save_model

pytestmark = [pytest.mark.slow, pytest.mark.rom]

STEPS, SEED = 120, 5
OURS = ("mario_dreamer", "nes_py", "gym_super_mario_bros", "gymnasium", "torchrl", "tensordict",
        "hydra", "omegaconf", "av")  # fmt: skip
FOREIGN = """
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
frames = np.load(sys.argv[2])
for greedy in (False, True):
    chosen = []
    for step, pair in enumerate(frames[f"greedy{int(greedy)}"]):
        params = {"episode": "mine", "reset": step == 0, "seed": 5, "greedy": greedy}
        seen = pair[-1:] if step == 0 else pair
        chosen.append(int(model.predict(seen, params)["action"].iloc[0]))
    print(json.dumps(chosen))
print(json.dumps([name for name in sys.argv[3].split(",") if name in sys.modules]))
"""


class RawGame:
    """The bare emulator: press buttons, keep the last two raw frames of each step."""

    def __init__(self) -> None:
        self.emulator = make_emulator("1-1")
        self.emulator.reset()
        self.frames = np.zeros((2, *SCREEN), np.uint8)
        copy_screen(self.emulator, self.frames[1])

    def press(self, byte: int) -> None:
        for _ in range(4):
            self.frames[0] = self.frames[1]
            self.emulator.step(byte)
            copy_screen(self.emulator, self.frames[1])


@pytest.fixture(scope="module")
def played() -> dict[bool, tuple[list[int], np.ndarray]]:
    """For sampled and greedy: the agent's actions in our env, and the raw frames before each."""
    result = {}
    cfg = OmegaConf.create(
        {"checkpoint": "shipped", "runs_dir": "none", "trust_config": False, "device": "cpu",
         "precision": "fp32", "threads": 1, "seed": 0, "env": {}}
    )  # fmt: skip
    for greedy in (False, True):
        agent, game = agent_of(cfg), RawGame()
        env = agent.make_env()
        actions, frames, state = [], [], env.reset()
        kind = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
        torch.manual_seed(SEED)
        with set_exploration_type(kind):
            for _ in range(STEPS):
                frames.append(game.frames.copy())
                after, state = env.step_and_maybe_reset(agent.policy(state))
                if greedy:
                    torch.rand(1)  # the number that a greedy program is given and does not use
                actions.append(int(after["action"].argmax()))
                game.press(button_byte(action_names(env)[actions[-1]]))
                if after["next", "done"].item():
                    break
        env.close()
        result[greedy] = actions, np.stack(frames)
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handover")
    cfg = OmegaConf.create(
        {"checkpoint": "shipped", "runs_dir": "none", "trust_config": False, "device": "cpu",
         "precision": "fp32", "threads": 1, "seed": 0, "env": {}}
    )  # fmt: skip
    card = export_program(agent_of(cfg), folder / "policy.pt2")
    return save_model(folder / "policy.pt2", card, folder / "model")


def closure(lines: list[str]) -> dict[str, Distribution]:
    """Every distribution that these requirements draw in, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        if wanted.name.lower() in found or (wanted.marker and not wanted.marker.evaluate()):
            continue
        found[wanted.name.lower()] = made = distribution(wanted.name)
        waiting += [Requirement(line) for line in made.requires or []]
    return found


def bare_site(folder: Path, requirements: list[str]) -> Path:
    """A site-packages with nothing in it but what the requirements draw in."""
    folder.mkdir()
    for made in closure(requirements).values():
        for top in {file.parts[0] for file in made.files or [] if file.parts[0] != ".."}:
            source = Path(str(made.locate_file(top)))
            if source.exists() and not (folder / top).exists() and top != "__pycache__":
                (folder / top).symlink_to(source)
    return folder


def test_with_its_requirements_alone_the_model_plays_as_here(
    model: Path, played: dict, tmp_path: Path
) -> None:
    needed = (model / "requirements.txt").read_text().split()
    site = bare_site(tmp_path / "site", needed)
    assert not any((site / name).exists() for name in OURS)
    np.savez(tmp_path / "frames.npz", greedy0=played[False][1], greedy1=played[True][1])
    code = f"import sys; sys.path.append({str(site)!r})\n{FOREIGN}"
    call = [sys.executable, "-I", "-S", "-c", code, model, tmp_path / "frames.npz", ",".join(OURS)]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=300,
                          cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    sampled, greedy, guests = map(json.loads, done.stdout.splitlines())
    assert sampled == played[False][0] and greedy == played[True][0]
    assert len(set(sampled)) > 2
    assert guests == []


def ask(url: str, frames: np.ndarray, **params) -> dict:
    """Send frames as anybody would; give back the one row of the answer."""
    body = json.dumps({"inputs": frames.tolist(), "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        (row,) = json.loads(answer.read())["predictions"]
    return row


def test_a_server_answers_one_frame_with_one_action(
    model: Path, played: dict, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor name in {OURS!r}: sys.modules[name] = None\n"
    )
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(tmp_path), "PATH": binaries}
    call = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port),
            "-h", "127.0.0.1", "--env-manager", "local"]  # fmt: skip
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        call, stdout=log, stderr=log, env=env, cwd=tmp_path, start_new_session=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.5)
        game, chosen = RawGame(), []
        for step in range(25):
            frames = game.frames if step else game.frames[1:]
            row = ask(f"{url}/invocations", frames, episode="mine", reset=step == 0, seed=SEED)
            chosen.append(row["action"])
            assert row["step"] == step
            game.press(row["buttons"])
        assert chosen == played[False][0][:25]
        other = ask(f"{url}/invocations", game.frames[1:], episode="another")
        assert other["step"] == 0 and other["name"]  # one frame, one action, a game of its own
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(f"{url}/invocations", np.zeros((1, 10, 10, 3), np.uint8))
        assert refused.value.code == 400
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        log.close()
