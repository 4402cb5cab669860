"""All three losses around foreign modules: Pendulum, TorchRL's collector and replay buffer."""

import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule as Prob
from tensordict.nn import ProbabilisticTensorDictSequential as Seq
from tensordict.nn import TensorDictModule as Mod
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import ActionScaling, GymEnv, TransformedEnv
from torchrl.modules import IndependentNormal, NormalParamExtractor, TanhNormal

from mario_dreamer.agent.returns import Returns
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.losses.targets import Discount


def head(size, out, dist, params, *extract):  # a linear layer and a distribution, TorchRL's own
    prob = Prob(params, [out], distribution_class=dist, default_interaction_type="mean")
    return Seq(Mod(nn.Sequential(nn.Linear(16, size), *extract), ["feat"], params), prob)
def normal(loc):
    return IndependentNormal(loc, torch.ones_like(loc))
def latent(params):  # a Gaussian latent, where ours is categorical
    return Independent(Normal(params[..., :16].tanh(), params[..., 16:].sigmoid() + 0.1), 1)
class Model(nn.Module):  # z of a frame; the next z is predicted from z and the action
    def __init__(self):
        super().__init__()
        self.encode, self.predict = nn.Linear(3, 32), nn.Linear(16 + 1, 32)
    def forward(self, before, action, after):
        feat, post = latent(self.encode(before)).rsample(), self.encode(after)
        return latent(post).rsample(), post, self.predict(torch.cat([feat, action], -1))
def imagine(feat, horizon=8):
    feats, actions = [feat], []
    for _ in range(horizon):
        actions.append(actor.get_dist(TensorDict(feat=feats[-1])).sample())
        feats.append(latent(net.predict(torch.cat([feats[-1], actions[-1]], -1))).sample())
    return TensorDict(feat=torch.stack(feats, 1), action=torch.stack(actions, 1), batch_size=[256])

seen, net, discount = ("next", "observation"), Model(), Discount(0.97, learned=False)
model = Mod(net, ["observation", "action", seen], ["feat", "post_logits", "prior_logits"])
decoder, reward = head(3, "x", normal, ["loc"]), head(1, "reward", normal, ["loc"])
cont, critic = head(1, "cont", Bernoulli, ["logits"]), head(1, "value", normal, ["loc"])
actor = head(2, "action", TanhNormal, ["loc", "scale"], NormalParamExtractor())
model_loss = WorldModelLoss(model, {seen: decoder}, reward, cont, latent=latent, discount=discount)
model_loss.set_keys(reward=("next", "reward"), is_terminal=("next", "terminated"))
returns = Returns(reward, cont, critic, discount)
actor_loss, critic_loss = ActorLoss(actor), CriticLoss(critic)
optimizer = torch.optim.Adam(nn.ModuleList([model, decoder, returns, actor]).parameters(), lr=1e-3)
buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(10_000), batch_size=256)
env = TransformedEnv(GymEnv("Pendulum-v1"), ActionScaling())
for data in Collector(env, None, frames_per_batch=200, total_frames=1_000):
    buffer.extend(data)
    losses, posterior = model_loss(buffer.sample().unsqueeze(1))  # [256, T = 1]
    rollouts = returns(imagine(posterior["feat"][:, 0].detach()), update_range=True)
    losses.update(actor_loss(rollouts)).update(critic_loss(rollouts))
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    optimizer.step(), optimizer.zero_grad()
print({name: round(float(value.detach()), 3) for name, value in losses.items()})
