"""mario-dreamer export: hand the policy to others.

    mario-dreamer export                                the newest checkpoint: policy.pt2, policy.json
    mario-dreamer export runs/NAME out=a/mario.pt2      a run's newest checkpoint, another file
    mario-dreamer export runs/NAME format=mlflow        an MLflow model in mlflow_model/
    mario-dreamer export runs/NAME format=mlflow register=mario    and a registered version of it

pt2: one step of acting as a `torch.export` program, state in and state out, and a card (JSON)
that says what goes in and how a raw screen becomes what the agent sees. mlflow: the same program
as a pyfunc model that plays from raw 240 x 256 frames and remembers each episode:
`mlflow.pyfunc.load_model("mlflow_model")`, or `mlflow models serve -m mlflow_model
--env-manager local`. Neither needs this package to run.

Options: checkpoint, format, out, register, results, tracking_uri, device, env.*; see
configs/export.yaml.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from mario_dreamer.commands._store import store_for
from mario_dreamer.config.load_agent import LoadedAgent, agent_of
from mario_dreamer.envs.base import close_env
from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.evaluated import evaluation_tags, find_results, read_results
from mario_dreamer.exporting.mlflow_model import log_model, save_model
from mario_dreamer.exporting.program_file import PROGRAM, ProgramFile
from mario_dreamer.tracking.mlflow.results import recorded_run
from mario_dreamer.training.checkpoint_files import run_of


def export_program(agent: LoadedAgent, path: Path) -> Path:
    """Write an agent's policy as a program, a .pt2 file; return its card's path."""
    env = agent.make_env()
    file = ProgramFile(ActingProgram(agent.policy), env, agent.env_options)
    close_env(env)
    return file.write(path, str(agent.checkpoint), agent.steps)


def _tags(cfg: DictConfig, checkpoint: Path, card: Path) -> dict[str, str]:
    file = Path(cfg.results) if cfg.results else find_results(checkpoint)
    if file is None:
        print("no evaluation of the checkpoint is found: the model carries none in its tags")
    results = [] if file is None else read_results(file)
    return evaluation_tags(results, json.loads(card.read_text("utf-8")))


def _as_model(cfg: DictConfig, agent: LoadedAgent) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / PROGRAM
        card = export_program(agent, program)
        out = save_model(program, card, Path(cfg.out or "mlflow_model"))
        print(f"{out}: an MLflow model; mlflow.pyfunc.load_model({str(out)!r}) plays with it")
        if cfg.register is None:
            return
        run = run_of(agent.checkpoint)
        tags, uri = _tags(cfg, agent.checkpoint, card), store_for(cfg, agent.cfg, run)
        model = log_model(program, card, uri, str(cfg.register), recorded_run(run), cfg.experiment, tags)
    print(f"{model}: registered, {', '.join(f'{key}={value}' for key, value in tags.items())}")


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    agent = agent_of(cfg)
    if agent.checkpoint is None:
        raise ValueError("there is no checkpoint to export. Train first, or give one.")
    if cfg.format == "mlflow":
        _as_model(cfg, agent)
    else:
        out = Path(cfg.out or PROGRAM)
        card = export_program(agent, out)
        print(f"{out}, {card}: the policy of {agent.checkpoint}")
