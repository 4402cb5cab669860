"""A configuration that came with a checkpoint builds an agent's parts and does nothing else."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from tiny import tiny_config

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.config.stored import resumed_config, stored_config
from mario_dreamer.config.trusted import SLOTS, check_destinations, check_stored, check_targets
from mario_dreamer.training.checkpoint_files import CheckpointError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def changed(path: str, value: object) -> DictConfig:
    cfg = OmegaConf.create(OmegaConf.to_container(tiny_config(), resolve=True))
    OmegaConf.update(cfg, path, value, force_add=True)
    return cfg


def checkpoint(folder: Path, cfg: DictConfig | str) -> Path:
    path = folder / "run" / "checkpoints" / "step_000000008"
    path.mkdir(parents=True)
    text = cfg if isinstance(cfg, str) else OmegaConf.to_yaml(cfg)
    (path / "config.yaml").write_text(text)
    return path


@pytest.mark.parametrize("target", [
    "os.system", "subprocess.run", "builtins.eval", "posix.system", "torch.load", "torch.hub.load",
    "torch.utils.cpp_extension.load", "shutil.rmtree", "hydra.utils.get_object", "torch.nn.Linear",
    "mario_dreamer.commands.train.run_training", "mario_dreamer.cli.main", "mario_dreamer_evil.x",
    "mario_dreamer._command.os.system", "mario_dreamer.envs.toy.corridor.torch.load",
    "mario_dreamer.tracking.provenance._git", "mario_dreamer.no.such.thing",
    "torchrl.envs.libs.gym.GymEnv", "importlib.import_module",
    "mario_dreamer.tracking.files.FileTracker", "mario_dreamer.replay.make_replay",
])  # fmt: skip
@pytest.mark.parametrize(
    "place", ["env", "rssm.sequence_model", "env.options", "size", "optimizer.optimizer"]
)
def test_a_class_outside_of_its_slot_is_refused(target: str, place: str) -> None:
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, f"{place}._target_", target)
    with pytest.raises(ValueError, match=re.escape(f"{place}._target_='{target}'")) as refused:
        check_targets(cfg)
    assert "trust_config=true" in str(refused.value)


def test_a_class_in_a_list_or_beyond_arguments_is_refused() -> None:
    with pytest.raises(ValueError, match=r"env.action_set.1.0._target_='os.system'"):
        check_targets(changed("env.action_set", ["noop", [{"_target_": "os.system"}]]))
    with pytest.raises(ValueError, match=r"gives Hydra the option encoder._args_"):
        check_targets(changed("encoder._args_", ["a"]))


# The three attacks of issue 17.
ATTACKS = {
    "a module is imported": ("env.env_id", "evil_module:Id", "would import a module"),
    "a file is imported by a name that is none": ("env.env_id", "evil-module:Id", "would import a mod"),
    "a secret is sent": (
        "env.options",
        {"_target_": "mario_dreamer.tracking.mlflow.tracker.MLflowTracker",
         "tracking_uri": "http://127.0.0.1:9/${oc.env:SECRET}"},
        "refers to something else: env.options.tracking_uri",
    ),
    "a file is written": (
        "env.options",
        {"_target_": "mario_dreamer.tracking.files.FileTracker", "folder": "/tmp/written"},
        "would build env.options._target_",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ATTACKS)
def test_the_attacks_by_way_of_arguments_are_refused(kind: str, tmp_path: Path) -> None:
    place, value, message = ATTACKS[kind]
    path = checkpoint(tmp_path, changed(place, value))
    with pytest.raises(ValueError, match=message):
        stored_config(path)
    assert "evil_module" not in sys.modules and not Path("/tmp/written").exists()
    assert place.split(".")[1] in stored_config(path, trust=True).env, "who trusts it may load it"


def test_known_packages_of_environments_may_be_named() -> None:
    check_stored(changed("env.env_id", "gym_super_mario_bros:SuperMarioBros-1-1-v0"))


@pytest.mark.parametrize("uri", [
    "http://host.example:5000", "https://host/x", "sqlite:////etc/mlflow.db", "databricks",
    "sqlite:///../elsewhere.db", "postgresql://host/db", "sqlite:///mlflow.db?uri=true",
])  # fmt: skip
def test_an_address_that_came_with_the_file_is_not_contacted(uri: str, tmp_path: Path) -> None:
    cfg = changed("tracker.tracking_uri", uri)
    with pytest.raises(ValueError, match="tracker.tracking_uri=") as refused:
        check_destinations(cfg, tmp_path, [])
    assert uri in str(refused.value) and "trust_config=true" in str(refused.value)
    check_destinations(cfg, tmp_path, ["tracker.tracking_uri"])


def test_databases_next_to_the_user_need_no_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:///mlflow.db", f"sqlite:///{tmp_path}/a/mlflow.db", None):
        check_destinations(changed("tracker.tracking_uri", uri), tmp_path / "run", [])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine:5000")
    check_destinations(changed("tracker.tracking_uri", "http://mine:5000"), tmp_path, [])


@pytest.mark.parametrize(("name", "value"), [
    ("replay.path", "/home/somebody"), ("tracker.options", {"log_dir": "/etc"}),
    ("tracker.logger", "wandb"),
])  # fmt: skip
def test_a_path_or_a_service_that_came_with_the_file_is_refused(
    name: str, value: object, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"comes with {name}="):
        check_destinations(changed(name, value), tmp_path, ["tracker", "replay.capacity"])


def test_a_resume_asks_before_it_builds_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path, changed("tracker.tracking_uri", "http://host.example"))
    monkeypatch.setattr(train, "find_run", lambda *_: path)
    monkeypatch.setattr(train, "_tracker", lambda *_: pytest.fail("it was contacted"))
    cfg = compose.compose_default()
    cfg.resume = str(path)
    with pytest.raises(ValueError, match="comes with tracker.tracking_uri=http://host.example"):
        train.run_training(cfg, [f"resume={path}"])


SPOILED = {
    "aliases": "env: &a [1]\nb: [*a, *a]\n",
    "brackets": "[" * 60_000,
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(350)),
    "too long": "env: {}\n" + "#" * 70_000,
    "a python object": "env: !!python/object/apply:os.system [true]\n",
    "no env": "a: 1\n",
    "env is a word": "env: mario\n",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_no_configuration_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path, began = checkpoint(tmp_path, SPOILED[kind]), time.process_time()
    with pytest.raises(CheckpointError, match="config.yaml is not a"):
        stored_config(path)
    assert time.process_time() - began < 3  # all of the brackets take minutes


@pytest.mark.parametrize("group", sorted({p.parent.name for p in CONFIGS.glob("*/*.yaml")}))
def test_every_choice_of_our_own_is_trusted(group: str) -> None:
    for file in (CONFIGS / group).glob("*.yaml"):
        if file.name == "own.yaml":  # stands for a class from outside the package
            continue
        part = OmegaConf.to_container(OmegaConf.load(file))
        for slot in ("reward", "cont", "critic") if group == "head" else (group,):
            check_targets({slot: part})
            assert "_target_" not in part or slot in SLOTS


@pytest.mark.parametrize("experiment", ["laptop", "seed_v1"])
def test_whole_configurations_of_our_own_are_trusted(experiment: str) -> None:
    cfg = compose.compose_default([f"experiment={experiment}"])
    check_stored(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))


def test_what_is_typed_on_a_resume_is_the_users_own(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, changed("tracker.tracking_uri", "http://theirs"))
    typed = ["tracker.tracking_uri=null", "+env.env_id=mine:Id", "steps=9"]
    cfg, _ = resumed_config(path, tmp_path, typed)
    assert cfg.tracker.tracking_uri is None and cfg.env.env_id == "mine:Id" and cfg.steps == 9
