"""One worker: the policy it plays, a TorchRL collector in other processes, and its thread."""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from mario_dreamer import keys
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


class Worker:
    """One TorchRL collector, and the thread that drives it: a batch for each request.

    Args:
        make: makes the collector, in the thread.
        streams: of its envs, int64 [N].
        weights: the newest copy of the learner's weights.
        done: receives (this worker, transitions [N, n] or the error that ended it).
    """

    def __init__(
        self,
        make: Callable[[], Any],
        streams: Tensor,
        weights: Callable[[], TensorDictBase],
        done: queue.SimpleQueue,
    ) -> None:
        self.streams, self.batches = streams, 0
        self.version: int | None = None  # of the weights it plays with; None while it starts
        self.since = time.monotonic()
        self._make, self._weights, self._done = make, weights, done
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._collector: Any = None
        self._threads = torch.get_num_threads()  # TorchRL changes it when workers end
        self.thread = threading.Thread(target=self._run, daemon=True, name="collector")
        self.thread.start()

    @property
    def is_starting(self) -> bool:
        """Whether TorchRL still makes its collector."""
        return self._collector is None and self.thread.is_alive()

    def request(self) -> None:
        """Let it play a batch."""
        self.version = None
        self._requests.put(True)

    def kill(self) -> None:
        """End its processes at once; its thread then notices."""
        self._requests.put(False)
        for process in self._processes():
            with contextlib.suppress(ValueError, AttributeError):  # closed already
                process.cancel() if hasattr(process, "cancel") else process.kill()
        if hasattr(self._collector, "stop_remote_collectors"):
            self._collector.stop_remote_collectors()

    def silent(self) -> float:
        """Seconds since it began to start or to play; 0 between two batches."""
        begun = self.is_starting or self.version is not None
        return time.monotonic() - self.since if begun else 0.0

    def lost(self) -> bool:
        """Whether a process of it is gone."""
        # submitit's jobs, which TorchRL keeps with its processes, have other methods.
        return any(
            process.done() if hasattr(process, "done") else not process.is_alive()
            for process in self._processes()
        )

    def _processes(self) -> list[Any]:
        owned = [*getattr(self._collector, "procs", ()), *getattr(self._collector, "jobs", ())]
        return [process for process in owned if not getattr(process, "_closed", False)]

    def _run(self) -> None:
        try:
            self._collector = self._make()
            batches = iter(self._collector)
            while self._requests.get():
                weights = self._weights()
                self.since = time.monotonic()
                self.version = int(weights["version"])
                self._collector.update_policy_weights_(weights)
                batch = next(batches)
                steps = batch.shape[-1]
                # [1, N, n] or [W, N / W, n] -> [N, n], copied: the next batch comes to its place.
                batch = batch.reshape(-1, steps).to_tensordict()
                batch[keys.STREAM] = self.streams[:, None].expand(-1, steps)
                self._done.put((self, batch))
        except BaseException as error:
            self._done.put((self, error))
        finally:
            if not hasattr(self._collector, "jobs"):  # that one waits for answers of the dead
                with contextlib.suppress(Exception):
                    self._collector.shutdown(timeout=5.0)
            torch.set_num_threads(self._threads)
