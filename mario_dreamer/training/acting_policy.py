"""The policy as a worker plays it: a copy whose weights know how old they are."""

from __future__ import annotations

import copy

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase

from mario_dreamer.agent.policy import Policy

VERSION = "policy_version"


class ActingPolicy(TensorDictModuleBase):
    """A copy of the policy whose weights carry the number of the update they were taken after.

    Every step notes that number as `policy_version`, int64 [N, 1]. It travels with the weights,
    so what is logged as their age is what really acted.

    Args:
        policy: copied to the CPU.
        dtype: autocast type there; None for float32.
    """

    def __init__(self, policy: Policy, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy).cpu().requires_grad_(False)
        self.policy.autocast_dtype = dtype
        for parameter in self.policy.parameters():  # gloo sends nothing else
            parameter.data = parameter.data.contiguous()
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        self.register_buffer("uniform", torch.zeros((), dtype=torch.bool))
        self.in_keys = policy.in_keys
        self.out_keys = [*policy.out_keys, VERSION]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Choose actions as `Policy.forward`; note the version."""
        self.policy.uniform = bool(self.uniform)
        played = self.policy(tensordict)
        return played.set(VERSION, self.version.expand(*played.batch_size, 1).clone())


def learner_weights(policy: Policy, updates: int) -> TensorDict:
    """Copy the learner's weights of now to the CPU, for `ActingPolicy`."""
    weights = TensorDict.from_module(policy).data.to("cpu").clone().contiguous()
    version, uniform = torch.tensor(updates), torch.tensor(policy.uniform)
    return TensorDict({"policy": weights, "version": version, "uniform": uniform})
