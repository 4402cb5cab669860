"""Build what a configuration names, with an error that names the part."""

from __future__ import annotations

import traceback
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate as build_from
from omegaconf import DictConfig

from mario_dreamer.config.contracts import folder_of


def instantiate(cfg: DictConfig, **sizes: Any) -> Any:
    """Build what a configuration names; say which part it was when that cannot be done.

    Args:
        cfg: with `_target_`.
        sizes: what only the run knows.

    Raises:
        ValueError: naming the part, its class and its options.
    """
    try:
        return build_from(cfg, **sizes)
    except (HydraException, TypeError, AttributeError) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        frames = traceback.extract_tb(cause.__traceback__)
        ours = bool(frames) and "/mario_dreamer/" in frames[-1].filename
        if ours and isinstance(cause, ValueError | KeyError | ImportError):
            raise cause from error  # it says what is wrong in words of ours
        part = str(cfg._get_full_key(None)) if isinstance(cfg, DictConfig) else "?"
        options = {k: v for k, v in cfg.items() if k != "_target_"} if part != "?" else cfg
        raise ValueError(
            f"{part} cannot be built by {cfg.get('_target_')} from {str(options)[:300]}: "
            f"{type(cause).__name__}: "
            f"{str(cause).splitlines()[0][:300] if str(cause) else ''}. Compare "
            f"with the files of configs/{folder_of(part)}."
        ) from error
