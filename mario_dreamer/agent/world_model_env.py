"""The world model as a TorchRL environment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs import ModelBasedEnvBase

from mario_dreamer import keys
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.checks import check, require_keys
from mario_dreamer.precision import wide_dtype


class WorldModelEnv(ModelBasedEnvBase):
    """Act inside the world model: start states in, imagined observations, rewards, ends out.

    Paper: arXiv:2301.04104, "Actor critic learning" (imagination).

        h_{t+1} = f(h_t, z_t, a_t),  z_{t+1} ~ p(z_{t+1} | h_{t+1})
        x_{t+1}, r_{t+1}, c_{t+1}    decoder, reward and continue heads of (h_{t+1}, z_{t+1})

    The TensorDict carries the state: deter [N, D], stoch [N, S, K], feat [N, F]. Any TorchRL
    policy on feat, or on decoded observations, can act. `StepCounter(H)` ends rollouts after H
    steps.

    Args:
        world_model: makes the steps; its weights are shared and get no gradient.
        starts: states [M] with deter and stoch; each reset draws from them.
        action_spec: of the real environment, [A] or [N, A].
        num_envs: N.
        gamma: what the continue head predicts of a state that surely goes on: the discount where
            it is taught gamma * c_t (`Discount.learned`), else 1.
        decode: keys of the observations to decode, as floats.
        sample_ends: draw `terminated` from its predicted probability; False: above 1/2 it ends.

    Raises:
        KeyError: a start state or a decoder is missing. ValueError: shapes do not fit the model.
    """

    def __init__(
        self,
        world_model: WorldModel,
        starts: TensorDictBase,
        action_spec: TensorSpec,
        num_envs: int = 1,
        gamma: float = 1.0,
        decode: Sequence[str] = (),
        sample_ends: bool = True,
    ) -> None:
        device = next(world_model.parameters()).device
        super().__init__(world_model, device=device, batch_size=[num_envs])
        rssm = world_model.rssm
        require_keys("WorldModelEnv", starts, [keys.DETER, keys.STOCH])
        fields = {keys.DETER: (starts[keys.DETER], "M D: float"),
                  keys.STOCH: (starts[keys.STOCH], "M S K: float"),
                  "action_spec": (action_spec.zero().to(device), "... A: one-hot")}  # fmt: skip
        check("WorldModelEnv", world_model, rssm.sizes, fields)
        if unknown := [key for key in decode if key not in world_model.decoders]:
            known = world_model.observation_keys
            raise KeyError(f"WorldModelEnv: no decoder for {unknown}; there is one for {known}.")
        dtype = wide_dtype(world_model)
        self.starts = starts.select(keys.DETER, keys.STOCH).detach().to(dtype)
        self.num_envs, self.gamma = num_envs, gamma
        self.decode, self.sample_ends = list(decode), sample_ends
        shapes = {keys.DETER: (rssm.deter_dim,), keys.STOCH: rssm.stoch_shape}
        shapes[keys.FEAT] = (rssm.feat_dim,)
        state = {key: Unbounded((num_envs, *shape), dtype=dtype) for key, shape in shapes.items()}
        self.state_spec = Composite(state, shape=[num_envs])
        with torch.no_grad():
            zeros = self.state_spec.zero()
            shapes = {key: self._decoded(key, zeros).shape for key in self.decode}
        seen = {key: Unbounded(shape, dtype=dtype) for key, shape in shapes.items()}
        self.observation_spec = Composite({**state, **seen}, shape=[num_envs])
        if len(action_spec.shape) == 1:
            action_spec = action_spec.expand(num_envs, *action_spec.shape)
        self.action_spec = action_spec.clone()
        self.reward_spec = Unbounded((num_envs, 1), dtype=dtype)
        flag = Binary(1, (num_envs, 1), dtype=torch.bool)
        flags = {"done": flag, "terminated": flag.clone()}
        self.full_done_spec = Composite(flags, shape=[num_envs])

    @torch.no_grad()
    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDict:
        """Draw start states for all envs, or for those whose `_reset` is set."""
        drawn = self.starts[torch.randint(len(self.starts), (self.num_envs,), device=self.device)]
        deter, stoch = drawn[keys.DETER], drawn[keys.STOCH]
        again = None if tensordict is None else tensordict.get("_reset", None)
        if again is not None and keys.DETER in tensordict:
            again = again.reshape(-1, 1)
            deter = torch.where(again, deter, tensordict[keys.DETER])
            stoch = torch.where(again[..., None], stoch, tensordict[keys.STOCH])
        return self._observed(deter, stoch)

    @torch.no_grad()
    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        """Take actions [N, A] from the states in `tensordict`."""
        deter, stoch, _ = self.world_model.rssm.img_step(
            tensordict[keys.DETER], tensordict[keys.STOCH], tensordict[keys.ACTION]
        )
        found = self._observed(deter, stoch)
        alive = self.world_model.cont.get_dist(found).mean / self.gamma
        terminated = alive < (torch.rand_like(alive) if self.sample_ends else 0.5)
        found["terminated"], found["done"] = terminated, terminated.clone()
        return found.set(keys.REWARD, self.world_model.reward.get_dist(found).mean)

    def _observed(self, deter: Tensor, stoch: Tensor) -> TensorDict:
        state = {keys.DETER: deter, keys.STOCH: stoch}
        state[keys.FEAT] = self.world_model.rssm.feat(deter, stoch)
        found = TensorDict(state, self.batch_size, device=self.device)
        return found.update({key: self._decoded(key, found) for key in self.decode})

    def _decoded(self, key: str, states: TensorDictBase) -> Tensor:
        return self.world_model.decoders[key].get_dist(states).mean

    def _set_seed(self, seed: int | None) -> None:
        """Seed torch: the world model draws from its global generator."""
        if seed is not None:
            torch.manual_seed(seed)
