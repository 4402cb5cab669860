"""An env of any kind of action that keeps the last action as it received it."""

from __future__ import annotations

import math

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    TensorSpec,
    Unbounded,
)
from torchrl.envs import EnvBase

from mario_dreamer.envs.base import with_bookkeeping


class EchoEnv(EnvBase):
    """Show two numbers; `taken` holds the last action as the env received it."""

    def __init__(self, action_spec: TensorSpec, mask: torch.Tensor | None = None) -> None:
        num_envs = action_spec.shape[0]
        super().__init__(batch_size=[num_envs])
        seen: dict[str, TensorSpec] = {"vector": Unbounded((num_envs, 2))}
        if mask is not None:
            seen["action_mask"] = Binary(shape=mask.shape, dtype=torch.bool)
        self.mask = mask
        self.observation_spec = Composite(seen, shape=[num_envs])
        self.action_spec = action_spec
        self.reward_spec = Unbounded((num_envs, 1))
        self.taken: torch.Tensor | None = None
        self.count = 0

    def _observe(self) -> TensorDict:
        ends = torch.full((*self.batch_size, 1), self.count % 6 == 5)
        seen = {"vector": torch.full((*self.batch_size, 2), float(self.count))}
        seen |= {} if self.mask is None else {"action_mask": self.mask}
        return TensorDict(seen | {"done": ends, "terminated": ends.clone()}, self.batch_size)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDict:
        self.count = 0
        return self._observe()

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        self.taken, self.count = tensordict["action"], self.count + 1
        return self._observe().set("reward", torch.ones(*self.batch_size, 1))

    def _set_seed(self, seed: int | None) -> None:
        pass


SPECS = {
    "index": Categorical(3, shape=(2,)),
    "indices": MultiCategorical([3, 2], shape=(2, 2)),
    "multi_onehot": MultiOneHot([3, 2], shape=(2, 5)),
    "binary": Binary(3, shape=(2, 3)),
    "bounded": Bounded(torch.tensor([-2.0, 0.0]).expand(2, 2), torch.tensor([2.0, 10.0]).expand(2, 2)),
    "unbounded": Unbounded((2, 2)),
    "half_bounded": Bounded(
        torch.tensor([0.0, -math.inf]).expand(2, 2), torch.tensor([math.inf, 3.0]).expand(2, 2)
    ),
}  # fmt: skip
MASK = torch.tensor([[True, False, True], [False, True, False]])


def make_echo_env(kind: str, num_envs: int = 2, seed: int = 0) -> EnvBase:
    """Build two echo envs with one of `SPECS`, or one-hot actions with a mask ("masked")."""
    if kind == "masked":
        spec: TensorSpec = Categorical(3, shape=(2,)).to_one_hot_spec()
        return with_bookkeeping(EchoEnv(spec, MASK))
    return with_bookkeeping(EchoEnv(SPECS[kind].clone()))
