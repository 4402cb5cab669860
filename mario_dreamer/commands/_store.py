"""Where the results of a command go in MLflow."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.trusted import is_near
from mario_dreamer.tracking.mlflow.results import uses_mlflow
from mario_dreamer.tracking.mlflow.store import store_uri

log = logging.getLogger(__name__)


def store_for(cfg: DictConfig, stored: DictConfig, run: Path | None) -> str | None:
    """Return the address of the store; None where the results go to none.

    What is typed counts; then the run's own address, where it needs no asking; then MLflow's.

    Args:
        cfg: of the command, with `tracking_uri`, and with `track` where it may not be logged.
        stored: the configuration of the run looked at.
        run: its folder; None where it lies in none.

    Raises:
        ValueError: the address is no database and no server.
    """
    track = cfg.get("track", True)
    if not uses_mlflow(track, run):
        return None
    uri = OmegaConf.select(stored, "tracker.tracking_uri")
    if cfg.tracking_uri is not None or not uri or run is None:
        return store_uri(cfg.tracking_uri)
    if is_near(str(uri), run):
        return store_uri(str(uri))
    log.warning("MLflow: the run was logged at %s; add tracking_uri=%s to log there", uri, uri)
    return None if track == "auto" else store_uri()
