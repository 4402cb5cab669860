"""Write an MLflow model next to each checkpoint of a training run."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchrl.envs import EnvBase

from mario_dreamer.agent.policy import Policy
from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.mlflow_model import save_model
from mario_dreamer.exporting.program_file import PROGRAM, ProgramFile

MODEL = "mlflow_model"  # the model's folder inside the checkpoint's

log = logging.getLogger(__name__)


class CheckpointModel:
    """Write the policy as an MLflow model into a checkpoint's folder, which goes with it.

    The program is exported once, at the first checkpoint; later ones only write its newest
    weights. A full disk costs the model of one checkpoint; any other failure ends the writing of
    models. Either is one warning, and training goes on. Actions that cannot be exported are one
    warning at the start.

    Args:
        policy: what is exported.
        env: environments like those it plays in.
    """

    def __init__(self, policy: Policy, env: EnvBase, options: Mapping[str, Any]) -> None:
        self.policy, self.env, self.options = policy, env, options
        self.file: ProgramFile | None = None
        self.given_up = False
        try:
            ActingProgram.check(policy)
        except ValueError as error:  # before training, not after its first hour
            self._give_up(error)

    def __call__(self, checkpoint: Path, agent_steps: int) -> Path | None:
        """Write the model of a checkpoint just saved.

        Returns:
            the model's folder; None when there is none.
        """
        if self.given_up:
            return None
        try:
            return self._write(checkpoint, agent_steps)
        except OSError as error:
            log.warning("no MLflow model next to %s: %s", checkpoint, error)
            return None
        except Exception as error:  # noqa: BLE001 - of torch and MLflow; none stops a training
            return self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.given_up = True
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("checkpoints get no MLflow model from here on: %s", reason)

    def _write(self, checkpoint: Path, agent_steps: int) -> Path:
        with tempfile.TemporaryDirectory(dir=checkpoint) as folder:
            if self.file is None:
                self.file = ProgramFile(ActingProgram(self.policy), self.env, self.options)
            else:
                self.file.program.take(self.policy)
            path = Path(folder) / PROGRAM
            card = self.file.write(path, str(checkpoint), agent_steps)
            whole = save_model(path, card, Path(folder) / MODEL)
            return whole.replace(checkpoint / MODEL)  # at once: a kill leaves none or all of it
