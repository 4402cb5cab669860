"""One real world under the viewer: begin, act, and come back to an earlier moment."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import step_mdp

from mario_dreamer import keys
from mario_dreamer.config import build

__all__ = ["FACTS", "STAGES", "World", "action_names"]

STAGES = tuple(f"{world}-{stage}" for world in range(1, 9) for stage in range(1, 5))
FACTS = ("x_pos", "x_max", "flag", "time", "score", "coins", "life")
TOYS = {"ToyEnv": ("noop", "left", "right")}


def action_names(env: Any) -> tuple[str, ...]:
    """Name the actions of an env: buttons where it has buttons, else numbers."""
    base = env.base_env
    names = getattr(base, "action_names", None) or TOYS.get(type(base).__name__)
    count = env.action_spec.shape[-1]
    if names is None or len(names) != count:
        return tuple(f"action {index}" for index in range(count))
    return tuple(names)


class World:
    """A single real world that can be taken back to where it was a while ago.

    Nothing in it is random but what its seed says, so a moment is a seed and the actions since
    the episode began; `replay` brings it back.

    Args:
        cfg: the agent's configuration, with `env`.
        seed: of the first episode.
        stage: "w-s"; None: the configuration's.
        chance: False: no random no-ops and no sticky actions, whatever the configuration says.

    Raises:
        ValueError: a stage that does not exist, or one where the world has none.
    """

    def __init__(
        self, cfg: DictConfig, seed: int = 0, stage: str | None = None, chance: bool = True
    ) -> None:
        self.has_stages, self.chance = "stage" in cfg.env, chance
        if stage is not None and not self.has_stages:
            raise ValueError(f"this agent's world has no stages; got stage {stage!r}.")
        changes: dict[str, Any] = {}
        if self.has_stages:
            self.stage: str | None = str(cfg.env.stage if stage is None else stage)
            if self.stage not in STAGES:
                raise ValueError(
                    f"there is no stage {self.stage!r}; expected one from 1-1 to 8-4, such as 1-2."
                )
            changes = {"stage": self.stage, "backend": "batched", "threads": 1}
        else:
            self.stage = None
        if not chance:
            changes |= {name: 0 for name in ("random_noops", "sticky") if name in cfg.env}
        self.env = build.make_env(cfg, 1, seed, **changes)
        self.names = action_names(self.env)
        self.seed, self.actions = seed, []
        self.over = True
        self._root: TensorDictBase | None = None

    def begin(self, seed: int) -> TensorDictBase:
        """Open an episode; return its first observation, TensorDict [1]."""
        self.env.set_seed(seed)
        self.seed, self.actions, self.over = seed, [], False
        self.reward, self.terminated, self.earned = 0.0, False, 0.0
        self._root = self.env.reset()
        return self._root

    def step(self, action: int) -> TensorDictBase:
        """Take an action; return the next observation, TensorDict [1]."""
        assert self._root is not None and not self.over, "begin() opens an episode first"
        one_hot = torch.zeros(1, len(self.names), dtype=torch.int64)
        one_hot[0, action] = 1
        played = self.env.step(self._root.set(keys.ACTION, one_hot))
        after = played["next"]
        self.reward, self.terminated = float(after["reward"]), bool(after["terminated"])
        self.over, self.earned = bool(after["done"]), self.earned + float(after["reward"])
        self.actions.append(action)
        self._root = step_mdp(played)
        return after

    def replay(self, seed: int, actions: list[int]) -> TensorDictBase:
        """Come back to the moment after these actions of the episode with this seed."""
        seen = self.begin(seed)
        for action in actions:
            seen = self.step(action)
        return seen

    def screen(self, observation: TensorDictBase) -> Tensor:
        """Return the picture people see, uint8 [H, W, 3]: the raw screen where there is one."""
        base = self.env.base_env
        if hasattr(type(base), "screens"):
            return base.screens()[0]
        return observation[keys.PIXELS][0].permute(1, 2, 0).contiguous()

    def facts(self, observation: TensorDictBase) -> dict[str, float]:
        """Return what the world tells about this moment, such as Mario's x."""
        told = set(observation.keys())
        return {name: float(observation[name]) for name in FACTS if name in told}

    def close(self) -> None:
        """Stop the emulator; safe to call twice."""
        if not self.env.is_closed:
            self.env.close()
