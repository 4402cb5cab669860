"""One env under the viewer: begin, step, and come back to an earlier moment."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Binary, MultiOneHot
from torchrl.envs import EnvBase, step_mdp

from mario_dreamer import keys
from mario_dreamer.config.load_agent import LoadedAgent
from mario_dreamer.envs.base import close_env
from mario_dreamer.envs.mario.buttons import action_names
from mario_dreamer.envs.mario.emulator import stages_of
from mario_dreamer.envs.torchrl import innermost
from mario_dreamer.training.filming import film
from mario_dreamer.viewer.controller import ActionSet

STAGES = stages_of("all")
INFO = ("x_pos", "x_max", "flag", "time", "score", "coins", "life")
TOYS = {"ToyEnv": ("noop", "left", "right")}


def action_set(env: EnvBase) -> ActionSet:
    """Name the actions of an env: buttons where it has buttons, else numbers."""
    spec = env.action_spec
    size = spec.shape[-1]
    if spec.dtype.is_floating_point:
        # An action without bounds is shown from -3 to 3.
        low, high = (
            torch.where(end.abs() < 1e6, end, end.sign() * 3.0).flatten()[-size:]
            for end in (spec.space.low, spec.space.high)
        )
        return ActionSet(action_names(env), tuple(low.tolist()), tuple(high.tolist()))
    names = TOYS.get(type(innermost(env)).__name__, action_names(env))
    if isinstance(spec, MultiOneHot):
        return ActionSet(names, choices=tuple(box.n for box in spec.space.boxes))
    return ActionSet(names, choices=(1,) * size if isinstance(spec, Binary) else ())


class LiveEnv:
    """A single env that can be taken back to where it was a while ago.

    Its only randomness is its seed, so a moment is a seed and the actions since the episode
    began; `replay` brings it back.

    Args:
        stage: "w-s"; None: the first of the agent's.
        is_random: False: no random no-ops and no sticky actions, whatever the options say.

    Raises:
        ValueError: a stage that does not exist, or one where the env has none.
    """

    def __init__(self, agent: LoadedAgent, stage: str | None = None, is_random: bool = True) -> None:
        options = agent.env_options
        self.has_stages, self.is_random = "stage" in options, is_random
        if stage is not None and not self.has_stages:
            raise ValueError(f"this agent's env has no stages; got stage {stage!r}.")
        self.stage: str | None = None
        changes: dict[str, Any] = {}
        if self.has_stages:
            self.stage = stages_of(options["stage"])[0] if stage is None else stage
            if self.stage not in STAGES:
                raise ValueError(
                    f"there is no stage {self.stage!r}; expected one from 1-1 to 8-4, such as 1-2."
                )
            changes = {"stage": self.stage, "backend": "batched", "threads": 1}
        if not is_random:
            changes |= {name: 0 for name in ("random_noops", "sticky") if name in options}
        self.env = agent.make_env(1, **changes)
        self.action_set = action_set(self.env)
        self.actions: list[Tensor] = []
        self.is_over = True
        self._root: TensorDictBase | None = None

    def begin(self, seed: int) -> TensorDictBase:
        """Begin an episode; return its first observation, TensorDict [1]."""
        self.env.set_seed(seed)
        self.seed, self.actions, self.is_over = seed, [], False
        self.reward, self.is_terminated, self.total_reward = 0.0, False, 0.0
        self._root = self.env.reset()
        return self._root

    def step(self, action: Tensor) -> TensorDictBase:
        """Take an action, [A]; return the next observation, TensorDict [1]."""
        assert self._root is not None and not self.is_over, "begin() an episode first"
        typed = action.to(self.env.action_spec.dtype).unsqueeze(0)
        played = self.env.step(self._root.set(keys.ACTION, typed))
        after = played["next"]
        self.reward, self.is_terminated = float(after["reward"]), bool(after["terminated"])
        self.is_over = bool(after["done"])
        self.total_reward += self.reward
        self.actions.append(action)
        self._root = step_mdp(played)
        return after

    def replay(self, seed: int, actions: list[Tensor]) -> TensorDictBase:
        """Come back to the moment after these actions of the episode with this seed."""
        observation = self.begin(seed)
        for action in actions:
            observation = self.step(action)
        return observation

    def screen(self, observation: TensorDictBase) -> Tensor:
        """Return the picture people see, uint8 [H, W, 3]: the raw screen where there is one."""
        return film(self.env, observation)[0].permute(1, 2, 0).contiguous()

    def legal(self, observation: TensorDictBase) -> Tensor | None:
        """Return which one-hot actions the env allows now, bool [1, A]; None: it has no mask."""
        mask = observation.get(keys.ACTION_MASK, None)
        return None if mask is None else mask.bool()

    def info(self, observation: TensorDictBase) -> dict[str, float]:
        """Return what the env reports about this moment, such as Mario's x."""
        return {name: float(observation[name]) for name in INFO if name in observation}

    def close(self) -> None:
        """Stop the emulator; safe to call twice."""
        if not self.env.is_closed:
            close_env(self.env)
