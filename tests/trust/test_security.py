"""Nothing that is read can run; nothing that is typed reaches a shell; pages stay on this machine."""

from __future__ import annotations

import ast
import json
import os
import pickle
import pickletools
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tiny import make_tiny, sign_files

from mario_dreamer.commands import replay as replay_actions
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, find_run, read
from mario_dreamer.viewer.serving import bind

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "mario_dreamer").rglob("*.py"))


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.sign}",)


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """A file that only a command that ran can have made."""
    return tmp_path / "pwned"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint."""
    run = tmp_path_factory.mktemp("runs") / "run"
    parts, _ = make_tiny().fill().parts(run / "checkpoints")
    parts.snapshot.save(parts, 48)
    return run


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A copy of that checkpoint, which a test may spoil."""
    return shutil.copytree(saved, tmp_path / "run") / "checkpoints" / "step_000000048"


def poison(file: Path, sign: Path, how: str) -> None:
    """A malicious pickle in the two forms that torch reads."""
    if how == "zip":
        torch.save({"weights": Evil(sign)}, file)
    elif how == "legacy":
        torch.save({"weights": Evil(sign)}, file, _use_new_zipfile_serialization=False)
    else:
        file.write_bytes(pickle.dumps(Evil(sign)))


def test_the_malicious_file_would_really_run(sign: Path, tmp_path: Path) -> None:
    poison(tmp_path / "evil.pt", sign, "zip")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert sign.exists(), "else the tests below show nothing"


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
@pytest.mark.parametrize("stem", ["agent", "learning", "replay"])
def test_a_malicious_pickle_is_refused_and_never_runs(
    stem: str, how: str, tmp_path: Path, sign: Path
) -> None:
    path = tmp_path / "run" / "checkpoints" / "step_000000048"
    path.mkdir(parents=True)
    for name in ("agent", "learning", "replay"):
        torch.save({"weights": torch.zeros(2)}, path / f"{name}.pt")
    poison(path / f"{stem}.pt", sign, how)
    sign_files(path)
    with pytest.raises(CheckpointError, match=r"cannot be loaded"):
        read(path, stem)
    assert not sign.exists()


def test_a_malicious_shipped_model_is_refused(checkpoint: Path, sign: Path, monkeypatch) -> None:
    from mario_dreamer.config import load_agent
    from mario_dreamer.training import checkpoint_files

    poison(checkpoint / "agent.pt", sign, "zip")
    sign_files(checkpoint)
    monkeypatch.setattr(checkpoint_files, "shipped_checkpoint", lambda: checkpoint)
    asked = OmegaConf.create({
        "checkpoint": "shipped", "runs_dir": "nowhere", "trust_config": False, "device": "cpu",
        "precision": "fp32", "threads": 1, "seed": 0, "env": {},
    })  # fmt: skip
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_agent.agent_of(asked)
    assert not sign.exists()


def test_malicious_replay_counts_are_refused(tmp_path: Path, sign: Path) -> None:
    replay = make_tiny().fill().replay
    for part, file in (("writer", "streams.pt"), ("sampler", "sampler.pt")):
        poison(tmp_path / file, sign, "zip")
        with pytest.raises(pickle.UnpicklingError):
            getattr(replay.buffer, f"_{part}").loads(tmp_path)
        assert not sign.exists()


@pytest.mark.parametrize("name", ["list.json", "list.npz", "list.npy", "list.pkl"])
def test_a_malicious_action_list_is_refused(name: str, tmp_path: Path, sign: Path) -> None:
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, actions=np.array([Evil(sign)], dtype=object))
    elif name.endswith(".npy"):
        np.save(path, np.array([Evil(sign)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Evil(sign)))
    with pytest.raises(ValueError, match="is not an action list"):
        replay_actions.read_actions(path)
    assert not sign.exists()


def test_what_we_save_ourselves_names_nothing_but_tensors(saved: Path) -> None:
    allowed = re.compile(r"(torch|collections)[ .]\S+")
    files = list(saved.rglob("*.pt"))
    assert len(files) == 3
    for file in files:
        with zipfile.ZipFile(file) as archive:
            data = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
        named = [str(arg) for op, arg, _ in pickletools.genops(data) if op.name == "GLOBAL"]
        assert named == [] or all(allowed.match(name) for name in named), (file, named)


def test_a_manifest_cannot_lead_out_of_its_folder(checkpoint: Path) -> None:
    shown = json.loads((checkpoint / "manifest.json").read_text())
    shown["files"]["../../secret"] = {"bytes": 1, "sha256": "0"}
    (checkpoint / "manifest.json").write_text(json.dumps(shown))
    assert Checkpoints(checkpoint.parent).latest() is None
    with pytest.raises(CheckpointError, match="outside the folder"):
        find_run(str(checkpoint), "nowhere")


def test_no_line_of_ours_hands_words_to_a_shell_or_unpickles() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            shell = name in ("os.system", "os.popen", "eval", "exec", "subprocess.getoutput")
            shell |= options.get("shell") == "True"
            # A list of words, never one string that something would take apart.
            if name.startswith("subprocess.") and node.args:
                shell |= isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            unpickles = name.startswith(("pickle.", "dill.", "joblib.")) or name == "yaml.load"
            unpickles |= name == "torch.load" and options.get("weights_only") != "True"
            unpickles |= options.get("allow_pickle") == "True"
            if shell or unpickles:
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert found == []


@pytest.mark.parametrize("name", ["a; touch pwned", "$(touch pwned)", "`touch pwned`", "a|touch x"])
def test_a_run_name_of_shell_words_is_only_a_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mario_dreamer.tracking.files import FileTracker
    from mario_dreamer.tracking.provenance import provenance

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / name
    with FileTracker(folder, run_name=name) as tracker:
        tracker.log_tags(provenance())
        tracker.log_hparams({"name": name, "tracker": {"tracking_uri": f"sqlite:///{name}"}})
        tracker.log_metrics({"kl": 1.0}, 1)
    assert (folder / "metrics.jsonl").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_viewer_listens_on_this_machine_alone_by_default() -> None:
    cfg = OmegaConf.load(ROOT / "configs" / "view.yaml")
    assert cfg.host == "127.0.0.1"
    with bind(str(cfg.host), 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.slow  # importing the command line of MLflow takes long
def test_mlflows_pages_bind_to_this_machine_alone_by_default() -> None:
    from mlflow.cli import cli

    options = {option.name: option.default for option in cli.commands["server"].params}
    assert options["host"] in (None, "127.0.0.1")
    commands = re.findall(r"mlflow (?:ui|server)[^\n`]*", (ROOT / "README.md").read_text())
    assert commands and not any("--host" in command for command in commands)
