"""A foreign world model on CartPole, trained with our WorldModelLoss and TorchRL's own parts."""

import torch
from tensordict.nn import ProbabilisticTensorDictModule as Prob
from tensordict.nn import ProbabilisticTensorDictSequential as Seq
from tensordict.nn import TensorDictModule as Mod
from torch import nn
from torch.distributions import Bernoulli
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.modules import IndependentNormal

from mario_dreamer.losses import WorldModelLoss


class MyRSSM(nn.Module):  # yours: a plain GRU, 8 categoricals of 4 classes
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4 + 2, 32, batch_first=True)
        self.post, self.prior = nn.Linear(32 + 4, 32), nn.Linear(32, 32)
    def forward(self, before, action, after):  # [B, T, 4], [B, T, 2], [B, T, 4]
        deter, _ = self.gru(torch.cat([before, action.float()], -1))
        post = self.post(torch.cat([deter, after], -1)).unflatten(-1, (8, 4))
        feat = torch.cat([deter, post.softmax(-1).flatten(-2)], -1)
        return feat, post, self.prior(deter).unflatten(-1, (8, 4))

def head(size, out, dist, param):  # a linear layer and a distribution, TorchRL's own
    return Seq(Mod(nn.Linear(64, size), ["feat"], [param]), Prob([param], [out], distribution_class=dist))
def normal(loc):
    return IndependentNormal(loc, torch.ones_like(loc))

seen = ("next", "observation")
model = Mod(MyRSSM(), ["observation", "action", seen], ["feat", "post_logits", "prior_logits"])
decoders, reward = {seen: head(4, "x", normal, "loc")}, head(1, "r", normal, "loc")
loss_module = WorldModelLoss(model, decoders, reward, head(1, "c", Bernoulli, "logits"))
loss_module.set_keys(reward=("next", "reward"), is_terminal=("next", "terminated"))
optimizer = torch.optim.Adam(loss_module.parameters(), lr=3e-3)
sampler = SliceSampler(slice_len=8, end_key=("next", "done"))
buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(10_000), batch_size=256, sampler=sampler)
for data in Collector(GymEnv("CartPole-v1"), None, frames_per_batch=200, total_frames=1_000):
    buffer.extend(data)
    losses, _ = loss_module(buffer.sample().reshape(-1, 8))
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    optimizer.step(), optimizer.zero_grad()
print({name: round(float(value.detach()), 3) for name, value in losses.items()})
