"""A head and its distribution as one TensorDict module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase, dispatch
from torch import Tensor, nn
from torchrl.envs import ExplorationType
from torchrl.envs.utils import exploration_type


class DistributionModule(TensorDictModuleBase):
    """A head that reads from and writes to a TensorDict, and returns its distribution.

    It offers the two methods that our losses ask of every head, spelled as in TorchRL's
    `ProbabilisticTensorDictSequential`, so that either can stand in a loss:

        get_dist(td)                 runs the network, returns the distribution
        build_dist_from_params(td)   returns the distribution from parameters already in td

    Args:
        head: called with the tensors under `in_keys`; `head.dist(params)` is the distribution.
        in_keys: what the head reads, each [..., *].
        out_key: name of the mean, or action, that it writes; the parameters go under `params_key`.

    Attributes:
        sizes: what the names in a shape mean for the head, such as F of feat.
        params_key: `<out_key>_params`, [..., P], what the network returned.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from mario_dreamer.networks.heads import TwoHotHead
        >>> head = TwoHotHead(feat_dim=4, layers=1, units=8)
        >>> reward = DistributionModule(head, ["feat"], "reward")
        >>> reward(TensorDict(feat=torch.randn(3, 4), batch_size=[3]))["reward"].shape
        torch.Size([3, 1])
    """

    def __init__(self, head: nn.Module, in_keys: Sequence[NestedKey], out_key: NestedKey) -> None:
        super().__init__()
        *path, name = (out_key,) if isinstance(out_key, str) else out_key
        self.params_key = (*path, f"{name}_params") if path else f"{name}_params"
        self.out_key = out_key
        self.head = head
        self.sizes: dict[str, int] = getattr(head, "sizes", {})
        self.in_keys = list(in_keys)
        self.out_keys = [self.params_key, out_key]

    def _params(self, tensordict: TensorDictBase) -> Tensor:
        return self.head(*(tensordict.get(key) for key in self.in_keys))

    def get_dist(self, tensordict: TensorDictBase) -> Any:
        """Run the network on `in_keys` and return its distribution; nothing is written."""
        return self.head.dist(self._params(tensordict))

    def build_dist_from_params(self, tensordict: TensorDictBase) -> Any:
        """Return the distribution of the parameters that `forward` wrote under `params_key`."""
        return self.head.dist(tensordict.get(self.params_key))

    @dispatch(auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the parameters, and the mean of the distribution or, of an action head, an action.

        The mean of one-hot actions would be no action. See `choose`.
        """
        params = self._params(tensordict)
        tensordict.set(self.params_key, params)
        dist, action_dtype = self.head.dist(params), getattr(self.head, "action_dtype", None)
        value = dist.mean if action_dtype is None else choose(dist).to(action_dtype)
        return tensordict.set(self.out_key, value)


def choose(dist: Any) -> Tensor:
    """Draw an action under `ExplorationType.RANDOM` (a collector's) or none, else the likeliest."""
    is_random = exploration_type() in (ExplorationType.RANDOM, None)
    return dist.sample() if is_random else likeliest(dist)


def likeliest(dist: Any) -> Tensor:
    """Return a distribution's most likely action, or what TorchRL plays in its place."""
    return dist.deterministic_sample if hasattr(dist, "deterministic_sample") else dist.mode
