"""From a configuration to the parts of a run: the only file that knows both Hydra and sizes.

A parent gives its children their sizes, by keyword; a configuration gives choices.
"""

from __future__ import annotations

import os
import random
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.agent.agent import Agent
from mario_dreamer.agent.critic import SlowCritic
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.imagination import Imagination
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.config.actions import action_sizes
from mario_dreamer.config.contracts import instantiate, make_part, require
from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.base import count_cpus, env_call
from mario_dreamer.envs.torchrl import check_contract, with_agent_interface
from mario_dreamer.networks.encoder import MultiEncoder
from mario_dreamer.precision import autocast_dtype
from mario_dreamer.replay import Replay
from mario_dreamer.replay.make import FILES
from mario_dreamer.training.acceleration import keep_freed_memory, resolve_device
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.learner import Learner, Losses
from mario_dreamer.training.loop import Run
from mario_dreamer.training.optim import ClippedOptimizer
from mario_dreamer.training.schedule import UpdateRatio


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python, so that a run on CPU can be repeated."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_env(cfg: DictConfig, num_envs: int, seed: int, **changes: Any) -> EnvBase:
    """Build [num_envs] envs of the configured kind, with what a run needs of them.

    Args:
        num_envs: N.
        seed: of the envs' own randomness.
        changes: options that override the configured ones, as evaluation does.

    Raises:
        ValueError: an env from outside this package that does not keep the contract of the slot.
    """
    env = instantiate("env", cfg.env, num_envs=num_envs, seed=seed, **changes)
    env = with_agent_actions(with_agent_interface(env))
    if not str(cfg.env._target_).startswith("mario_dreamer."):
        check_contract(env)
        env_call(env.set_seed, seed)
    return env


def shapes_of(env: EnvBase) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return the shapes of what is observed, by key and without N, and A of an action [N, A]."""
    spec = env.observation_spec
    seen = [key for key in spec.keys() if keys.is_observation(key)]
    if not seen:
        raise ValueError(
            f"the environment shows neither {keys.PIXELS!r} nor {keys.VECTOR!r}; it has "
            f"{sorted(map(str, spec.keys()))}. Rename its observation to one of the two."
        )
    seen.sort(key=keys.is_vector)  # images first
    return {key: tuple(spec[key].shape[1:]) for key in seen}, env.action_spec.shape[-1]


def part_for(cfg: DictConfig, part: str, key: str) -> DictConfig:
    """Return the configuration of the encoder or decoder of an observation.

    Args:
        cfg: the run's configuration; the first pattern in `cfg.encoders` (`cfg.decoders`) that
            fits the key changes the default, or replaces it where it names a `_target_`.
        part: "encoder" or "decoder".
        key: such as "pixels" or "vector_joints".
    """
    default = cfg[part] if keys.is_image(key) else cfg[f"vector_{part}"]
    for pattern, changes in (cfg.get(f"{part}s") or {}).items():
        if fnmatch(key, str(pattern)):
            return changes if "_target_" in changes else OmegaConf.merge(default, changes)
    return default


def make_agent(cfg: DictConfig, env: EnvBase) -> Agent:
    """Build the networks for what `env` shows and takes."""
    shapes, action_dim = shapes_of(env)
    sizes = {
        key: {"image_shape": shape} if keys.is_image(key) else {"vector_dim": shape[0]}
        for key, shape in shapes.items()
    }
    encoders = {
        key: make_part("encoder", part_for(cfg, "encoder", key), **size)
        for key, size in sizes.items()
    }
    encoder = MultiEncoder(encoders, shapes)
    rssm = make_part("rssm", cfg.rssm, embed_dim=encoder.embed_dim, action_dim=action_dim)
    state = {"deter_dim": rssm.deter_dim, "stoch_shape": rssm.stoch_shape}
    decoders = {
        key: make_part("decoder", part_for(cfg, "decoder", key), **size, **state)
        for key, size in sizes.items()
    }
    sizes_of = {"actor": action_sizes(cfg.actor, env.action_spec)}
    reward, cont, actor, critic = (
        make_part(slot, cfg[slot], feat_dim=rssm.feat_dim, **sizes_of.get(slot, {}))
        for slot in ("reward", "cont", "actor", "critic")
    )
    return Agent(
        WorldModel(encoder, rssm, decoders, reward, cont),
        DistributionModule(actor, [keys.FEAT], keys.ACTION),
        DistributionModule(critic, [keys.FEAT], keys.VALUE),
    )


def make_learner(cfg: DictConfig, agent: Agent, processes: Processes | None = None) -> Learner:
    """Build losses, optimiser and slow critic around an agent, on the configured device.

    Args:
        processes: those that learn together, each on a device of its own; None learns alone.
    """
    together = processes is not None and processes.size > 1
    device = processes.device if together else resolve_device(cfg.device)
    if device.type == "cpu":
        keep_freed_memory()
    world_model, actor, critic = agent.world_model, agent.actor, agent.critic
    nn.ModuleDict(vars(agent)).to(device)
    slow_critic = SlowCritic(critic, rate=cfg.slow_rate)
    discount = make_part("loss.discount", cfg.loss.discount)
    heads = {"reward": world_model.reward, "cont": world_model.cont, "critic": critic}
    shared = {"gather": processes.gather} if together else {}
    actor_loss = make_part("loss.actor", cfg.loss.actor, actor=actor).to(device)
    differentiable = getattr(actor_loss, "actor_grad", None) == "dynamics"
    returns = make_part("loss.returns", cfg.loss.returns, **heads, **shared, discount=discount)
    critics = {"critic": critic, "slow_critic": slow_critic, "discount": discount}
    learned = {"world_model": world_model, "discount": discount}
    losses = Losses(
        make_part("loss.world_model", cfg.loss.world_model, **learned),
        Imagination(world_model.rssm, actor, cfg.imag_horizon, differentiable),
        returns.to(device),
        actor_loss,
        make_part("loss.critic", cfg.loss.critic, **critics),
        slow_critic,
    )
    optimizer: ClippedOptimizer = make_part(
        "optimizer", cfg.optimizer, modules=vars(agent), _convert_="all"
    )
    require("optimizer.optimizer", optimizer.optimizer)
    return Learner(
        agent, losses, optimizer, device, autocast_dtype(cfg.precision, device), str(cfg.compile),
        cfg.imagination_starts, cfg.get("average_rate"), processes,
    )  # fmt: skip


def make_policy(agent: Agent, learner: Learner, env: EnvBase) -> tuple[Policy, EnvBase]:
    """Build the policy that plays, and let `env` carry its state."""
    policy = Policy(agent.world_model, agent.actor, learner.dtype)
    return policy, env.append_transform(policy.make_tensordict_primer())


def make_eval_env(cfg: DictConfig, policy: Policy) -> EnvBase:
    """Build the envs that evaluation plays in, with seeds of their own."""
    env = make_env(cfg, cfg.collector.eval_envs, cfg.seed + 10_000)
    return env.append_transform(policy.make_tensordict_primer())


def make_collector(
    cfg: DictConfig, env: EnvBase, policy: Policy, device: torch.device
) -> Collector:
    """Build TorchRL's synchronous collector around environment and policy."""
    return Collector(
        env,
        policy,
        frames_per_batch=cfg.collector.num_envs * cfg.collector.steps_per_env,
        total_frames=-1,  # the loop counts; a collector that counts closes the env at the end
        policy_device=device,
        env_device="cpu",
        storing_device="cpu",
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )


def make_replay(
    cfg: DictConfig, device: torch.device, path: str | None = None, seed_offset: int = 0
) -> Replay:
    """Build the replay: on the learner's CUDA device unless it lies in files, else on the CPU.

    Args:
        path: folder for files where the configuration names none.
        seed_offset: added to the seed, of one of several processes.
    """
    options: dict[str, Any] = {"device": device if device.type == "cuda" else "cpu"}
    if cfg.replay.get("storage") in FILES:
        options = {"path": cfg.replay.get("path") or path, "device": "cpu"}
    return make_part(
        "replay",
        cfg.replay,
        num_streams=cfg.collector.num_envs,
        batch_size=cfg.batch_size,
        batch_length=cfg.batch_length,
        seed=cfg.seed + seed_offset,
        **options,
    )


def make_run(cfg: DictConfig) -> Run:
    """Build the numbers of the run."""
    return Run(
        cfg.steps, cfg.env.get("action_repeat", 1), cfg.prefill, cfg.prefill_random, cfg.pretrain,
        cfg.log_every, cfg.eval_every, cfg.save_every, cfg.minutes, cfg.get("entropy_solved"),
    )  # fmt: skip


def make_ratio(cfg: DictConfig, processes: int = 1) -> UpdateRatio:
    """Build the update ratio of so many processes, each of which adds a batch to every update."""
    first = cfg.get("train_ratio_before_flag")  # older runs know of none
    return UpdateRatio(cfg.train_ratio, processes * cfg.batch_size, cfg.batch_length, first)


def set_threads(threads: int | None, processes: int = 1) -> None:
    """Let torch compute with so many threads on CPU.

    None takes $OMP_NUM_THREADS; where there is none, or torchrun set it, the cores are shared.
    """
    typed = os.environ.get("OMP_NUM_THREADS", "") if processes == 1 else ""
    shared = max(1, count_cpus() // processes)
    torch.set_num_threads(threads or (int(typed) if typed.isdecimal() and int(typed) else shared))
