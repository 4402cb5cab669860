"""Build the collector of a run whose envs play in other processes."""

from __future__ import annotations

import copy
import functools
import math
import multiprocessing
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.utils.distributed import get_free_port
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, TensorDictPrimer

from mario_dreamer.agent.policy import Policy
from mario_dreamer.checks import require_package
from mario_dreamer.config.build import make_env
from mario_dreamer.precision import autocast_dtype
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.schedule import UpdateRatio
from mario_dreamer.training.worker import ActingPolicy
from mario_dreamer.training.workers import WorkerCollector

ENDLESS = 10**12  # batches; the loop counts
SEED_OF_NEXT = 7_919  # between the seeds of a worker and of the one that replaces it


def plays_elsewhere(cfg: DictConfig) -> bool:
    """Whether the configured collector plays in other processes."""
    return cfg.collector.get("backend") is not None


def make_workers(
    cfg: DictConfig,
    policy: Policy,
    learner: Learner,
    ratio: UpdateRatio,
    processes: Processes,
    seed: int,
    folder: Path,
) -> WorkerCollector:
    """Build the workers that `cfg.collector` describes.

    Args:
        folder: the run's; submitit keeps the files of its jobs there.
        policy: the learner's; workers play copies on their CPU.
        processes: those that learn together; each has workers of its own.
        seed: of the first env.

    Raises:
        ValueError: num_envs is no multiple of workers, max_policy_age is too low, or TorchRL's
            "distributed" under torchrun. ImportError, ConnectionError: no Ray, no cluster.
    """
    num_envs, workers = cfg.collector.num_envs, cfg.collector.workers
    if num_envs % workers:
        raise ValueError(
            f"collector.num_envs={num_envs} cannot be shared equally by collector.workers={workers}"
        )
    cpu, own = torch.device("cpu"), num_envs // workers
    acting = ActingPolicy(policy, autocast_dtype(cfg.precision, cpu))
    primer = policy.make_tensordict_primer()
    streams = torch.arange(num_envs).reshape(workers, own)
    together = cfg.collector.backend == "distributed"  # one TorchRL collector with all workers
    frames = (num_envs if together else own) * cfg.collector.steps_per_env
    arguments = {
        "frames_per_batch": frames, "total_frames": frames * ENDLESS, "sync": True,
        "policy_device": cpu, "env_device": cpu, "storing_device": cpu, **_backend(cfg, processes),
    }  # fmt: skip

    def _make(number: int, life: int) -> Any:
        firsts = streams[:, 0].tolist() if together else [number * own]
        envs = [
            functools.partial(_env, cfg, own, seed + first + life * SEED_OF_NEXT, primer)
            for first in firsts
        ]
        port = {}
        if together:
            port = {"tcp_port": get_free_port()}
            if torch.distributed.is_initialized():  # of workers that are replaced
                torch.distributed.destroy_process_group()
        # A copy: while it starts, TorchRL takes the weights out of the policy, and other workers
        # start at the same time on other threads.
        with _jobs_in(folder) if cfg.collector.get("launcher") == "submitit" else nullcontext():
            return Collector(envs, copy.deepcopy(acting), **arguments, **port)

    most = max(ratio.updates_per_step, ratio.before_flag)
    updates = most * processes.size * num_envs * cfg.collector.steps_per_env
    return WorkerCollector(
        _make,
        [streams.flatten()] if together else list(streams),
        policy,
        lambda: learner.updates,
        cfg.collector.max_policy_age, cfg.collector.weights_every, cfg.collector.wait,
        math.ceil(updates if together else updates / workers),
    )  # fmt: skip


@contextmanager
def _jobs_in(folder: Path) -> Iterator[None]:
    """Let submitit write into a folder; TorchRL would name "log_test" in the current one."""
    import submitit

    place, executor = folder / "submitit", submitit.AutoExecutor
    with mock.patch.object(submitit, "AutoExecutor", lambda folder: executor(folder=place)):
        yield


def _env(cfg: DictConfig, num_envs: int, seed: int, primer: TensorDictPrimer) -> EnvBase:
    """Build a worker's envs, in its process; Ctrl-C is for the learner alone."""
    child = multiprocessing.parent_process() is not None
    if child and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return make_env(cfg, num_envs, seed).append_transform(primer)


def _backend(cfg: DictConfig, processes: Processes) -> dict[str, Any]:
    """What `Collector` wants to know of a backend."""
    plain = {"auto_register_policy_transforms": False}
    if cfg.collector.backend == "process":
        return {"backend": "process", "num_threads": torch.get_num_threads(), **plain}
    if cfg.collector.backend == "distributed":
        if processes.size > 1:
            raise ValueError(
                "collector=distributed makes a process group of its own, which cannot be had under "
                "torchrun; use collector=process or collector=ray there."
            )
        if cfg.collector.launcher == "submitit":
            require_package("submitit", "sweep", "collector.launcher=submitit")
        slurm = cfg.collector.slurm and OmegaConf.to_container(cfg.collector.slurm)
        return {"backend": "distributed", "backend_options": {
            "launcher": cfg.collector.launcher, "slurm_kwargs": slurm, "collector_kwargs": plain,
        }}  # fmt: skip
    _connect(cfg.collector.address)
    cores = {"num_cpus": cfg.collector.cpus, "num_gpus": 0}
    return {"backend": "ray", "backend_options": {
        "collector_class": "single", "collector_kwargs": plain, "remote_configs": cores,
    }}  # fmt: skip


def _connect(address: str | None) -> None:
    """Connect to a Ray cluster, or start one on this machine where no address is given."""
    ray = require_package("ray", "ray", "collector=ray")
    if ray.is_initialized():
        return
    try:
        host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
        if colon:  # Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
        own = {"include_dashboard": False} if address is None else {}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"there is no Ray cluster at collector.address={address} "
            f"({' '.join(str(error).split())[:150]}). Start one with `ray start --head`, or leave "
            "the address out for one on this machine. A cluster with tokens (see `ray start`) "
            "wants RAY_AUTH_MODE=token and the head's ~/.ray/auth_token on every machine."
        ) from error
