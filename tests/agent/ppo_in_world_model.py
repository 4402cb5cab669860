"""Plain TorchRL PPO that learns inside a world model of the corridor, then walks the real one."""

import torch
from tensordict.nn import TensorDictModule as Mod
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import ExplorationType, StepCounter, TransformedEnv, set_exploration_type
from torchrl.modules import OneHotCategorical, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from mario_dreamer.agent.world_model_env import WorldModelEnv
from mario_dreamer.config import build, compose

# 1. A world model, trained on random steps in the real env.
cfg = compose.compose_default(["experiment=corridor", "tracker=none", "device=cpu", "threads=1"])
build.seed_everything(0)
env = build.make_env(cfg, cfg.collector.num_envs, 0)
agent = build.make_agent(cfg, env)
learner, replay = build.make_learner(cfg, agent), build.make_replay(cfg, torch.device("cpu"))
policy, env = build.make_policy(agent, learner, env)
policy.uniform = True
for transitions in build.make_collector(cfg, env, policy, torch.device("cpu")):
    replay.extend(transitions)
    if len(replay) > 4000:
        break
for _ in range(400):
    metrics = learner.update(replay.sample())

# 2. PPO inside it, from the states of recorded frames.
states = learner.world_model(replay.sample(64)).detach().select("deter", "stoch").reshape(-1)
inside = WorldModelEnv(agent.world_model, states, env.action_spec[0], 64, gamma=cfg.discount)
inside = TransformedEnv(inside, StepCounter(12))
feat_dim = agent.world_model.rssm.feat_dim
net = Mod(nn.Sequential(nn.Linear(feat_dim, 64), nn.Tanh(), nn.Linear(64, 3)), ["feat"], ["logits"])
actor = ProbabilisticActor(
    net, ["logits"], ["action"], distribution_class=OneHotCategorical, return_log_prob=True
)
value_net = nn.Sequential(nn.Linear(feat_dim, 64), nn.Tanh(), nn.Linear(64, 1))
critic = Mod(value_net, ["feat"], ["state_value"])
loss, advantage = ClipPPOLoss(actor, critic), GAE(gamma=0.95, lmbda=0.95, value_network=critic)
optimizer = torch.optim.Adam(loss.parameters(), 1e-3)


def evaluate() -> float:
    """Mean return of 40 real episodes whose state the world model follows."""
    policy.uniform, returns = False, []
    root = env.reset()
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        while len(returns) < 40:
            root = policy(root)  # steps the state; its own action is replaced
            feat = agent.world_model.rssm.feat(root["next", "deter"], root["next", "stoch"])
            root["action"] = actor(root.select().set("feat", feat))["action"].long()
            root["next", "prev_action"] = root["action"].float()
            played, root = env.step_and_maybe_reset(root)
            returns += played["next", "episode_reward"][played["next", "done"]].tolist()
    return sum(returns) / len(returns)


before = evaluate()
for batch in Collector(inside, actor, frames_per_batch=64 * 12, total_frames=64 * 12 * 60):
    advantage(batch)
    for _ in range(4):
        found = loss(batch)
        optimizer.zero_grad()
        sum(v for k, v in found.items() if k.startswith("loss_")).backward()
        optimizer.step()
after = evaluate()
