"""The policy: choose actions with world model and actor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torch.distributions import Distribution
from torchrl.data import Unbounded
from torchrl.envs import TensorDictPrimer

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule, choose
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.checks import check, require_keys
from mario_dreamer.precision import autocast


class Policy(TensorDictModuleBase):
    """Update the latent state by each new frame and choose an action.

    Paper: arXiv:2301.04104, "Actor critic learning". The state h_t, z_t and the last action
    travel through the environment loop in the TensorDict, as TorchRL's recurrent modules do:

        root   pixels, is_init, deter = h_{t-1}, stoch = z_{t-1}, prev_action = a_{t-1}
        next   deter = h_t, stoch = z_t, prev_action = a_t

    Under `ExplorationType.RANDOM` (a collector's) the action is a sample; under any
    deterministic type it is the most likely one. The latent z_t is always sampled.

    Args:
        world_model: encodes and steps the state; parameters shared with the learner's.
        actor: distribution over actions given feat.
        autocast_dtype: compute type of the networks, e.g. torch.bfloat16; None for fp32.

    Attributes:
        uniform: while True, actions are drawn uniformly (the seed's random prefill).
    """

    def __init__(
        self,
        world_model: WorldModel,
        actor: DistributionModule,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.world_model = world_model
        self.actor = actor
        self.autocast_dtype = autocast_dtype
        self.uniform = False
        state = [keys.DETER, keys.STOCH, keys.PREV_ACTION]
        self.in_keys = [*world_model.observation_keys, "is_init", *state]
        self.out_keys = [keys.ACTION, *(("next", key) for key in state)]

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """Return the transform that makes an env carry the latent state, zero at each reset."""
        rssm = self.world_model.rssm
        shapes = {
            keys.DETER: (rssm.deter_dim,),
            keys.STOCH: tuple(rssm.stoch_shape),
            keys.PREV_ACTION: (rssm.action_dim,),
        }
        specs = {key: Unbounded(shape=shape, dtype=torch.float32) for key, shape in shapes.items()}
        return TensorDictPrimer(specs, expand_specs=True)

    def observe(
        self, root: TensorDictBase | Mapping[str, Tensor], point: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Update the state by a frame: z_t ~ q(z_t | h_t, x_t).

        Args:
            root: [N] with `in_keys`, on the device of the networks.
            point: uniform numbers that z_t is drawn with, [N, S, 1]; None makes them.

        Returns:
            deter h_t [N, D], stoch z_t [N, S, K], posterior and prior logits [N, S, K].
        """
        with autocast(root[keys.DETER].device, self.autocast_dtype):
            return self.world_model.rssm.obs_step(
                root[keys.DETER],
                root[keys.STOCH],
                root[keys.PREV_ACTION],
                self.world_model.encode(root),
                root["is_init"],
                point,
            )

    def distribution(self, deter: Tensor, stoch: Tensor) -> Distribution:
        """Return pi(a_t | h_t, z_t), batch [N]; uniform while `uniform` is set."""
        with autocast(deter.device, self.autocast_dtype):
            params = self.actor.head(self.world_model.rssm.feat(deter, stoch))
        return self.actor.head.uniform(params) if self.uniform else self.actor.head.dist(params)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Choose a_t, [N, A], for the frame in `tensordict`, [N], and carry the state.

        One-hot actions that `action_mask`, [N, A], forbids are not chosen. That is a rule of acting
        alone: imagination draws from all actions, as nothing predicts the mask of a later state.
        """
        cure = "the env needs InitTracker() and policy.make_tensordict_primer()"
        require_keys("Policy", tensordict, self.in_keys, cure=cure)
        wanted = {key: f"N {shape}: frame" for key, shape in self.world_model.shapes.items()} | {
            "is_init": "N 1: flag", keys.DETER: "N D: float", keys.STOCH: "N S K: float",
            keys.PREV_ACTION: "N A: one-hot",
        }  # fmt: skip
        if not tensordict.batch_size and not torch.compiler.is_compiling():
            raise ValueError(
                "Policy: the env has no batch dimension. Make N of them: torchrl's SerialEnv(N, make)."
            )
        fields = {key: (tensordict.get(key), shape) for key, shape in wanted.items()}
        check("Policy", None, getattr(self.world_model.rssm, "sizes", {}), fields)
        home = tensordict.get(self.in_keys[0]).device
        device = next(self.parameters()).device
        # Envs live on the CPU; a collector moves their frames by itself, evaluation does not.
        seen = tensordict if home == device else tensordict.select(*self.in_keys).to(device)
        deter, stoch, _, _ = self.observe(seen)
        dist = self.distribution(deter, stoch)
        if (mask := tensordict.get(keys.ACTION_MASK, None)) is not None:
            dist = dist.masked(mask.to(device, torch.bool))
        action = dist.sample() if self.uniform else choose(dist)
        tensordict.set(keys.ACTION, action.to(home, self.actor.head.action_dtype))
        for key, value in zip(self.out_keys[1:], (deter, stoch, action), strict=True):
            tensordict.set(key, value.to(home, torch.float32))
        return tensordict
