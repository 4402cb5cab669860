"""Collect in other processes while this one learns, on TorchRL's collector backends."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from mario_dreamer.agent.policy import Policy
from mario_dreamer.training.worker import VERSION, Worker, learner_weights

log = logging.getLogger(__name__)

START = 300.0  # seconds that a worker may take for its first batch
MOST_LIVES, SHORT = 5, 100  # a worker that was lost so often after fewer batches is given up


class WorkerCollector:
    """Yield batches of transitions from workers, as a TorchRL collector does.

    Each worker plays one batch ahead: when its batch is taken, it begins the next one with the
    newest copy of the weights. So nothing is waited for while any batch is ready, and no
    worker runs away from the learner. A worker that ends, or that is waited for too long, is
    replaced; its envs begin new episodes, in the same streams.

    Args:
        make: (number of the worker, how many it had before) -> its TorchRL collector, which
            plays an `ActingPolicy`.
        streams: for each worker, the streams of its envs, int64 [N].
        updates: how many updates the learner has made.
        max_policy_age: K, updates; no action that reaches replay was drawn from older weights
            (but for a `pretrain` burst, which is one turn of the loop).
        weights_every: updates between two copies of the learner's weights for the workers.
        wait: seconds that the learner waits for a worker that has begun to play.
        updates_per_batch: most updates that the steps of one batch earn.

    Attributes:
        policy_age: updates made since the oldest weights that acted in the last 100 batches, as of
            the arrival of each batch; 0-dim.

    Raises:
        ValueError: max_policy_age is less than what the workers' batches earn together.
    """

    def __init__(
        self,
        make: Callable[[int, int], Any],
        streams: Sequence[Tensor],
        policy: Policy,
        updates: Callable[[], int],
        max_policy_age: int,
        weights_every: int,
        wait: float,
        updates_per_batch: int,
    ) -> None:
        least = weights_every + (len(streams) + 1) * updates_per_batch
        if max_policy_age < least:
            raise ValueError(
                f"collector.max_policy_age={max_policy_age} is too low: a batch earns up "
                f"to {updates_per_batch} updates and {len(streams)} are played at a time; "
                f"set it to {least} or more, or lower collector.steps_per_env."
            )
        self.max_policy_age, self.weights_every = max_policy_age, weights_every
        self.wait, self.updates_per_batch = wait, updates_per_batch
        self.policy_age = torch.zeros(())
        self._make, self._policy, self._updates = make, policy, updates
        self._ages: deque[int] = deque(maxlen=100)
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._ready: dict[Worker, TensorDictBase] = {}
        self._past: list[list[int]] = [[] for _ in streams]  # batches that those replaced played
        self._streams, self._workers = streams, list[Worker]()
        self._hung: list[Worker] = []  # replaced while they started
        self._waited = 0.0  # seconds for the next batch

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Start the workers: now, as a resume has put back the weights."""
        if not self._workers:
            self._weights = learner_weights(self._policy, self._updates())
            self._others = set(multiprocessing.active_children())
            self._workers = [self._start(number, own) for number, own in enumerate(self._streams)]
        return self

    def __next__(self) -> TensorDictBase:
        """Return transitions [N, n] of one worker, with `stream` and `policy_version`."""
        while not self.has_batch():
            pass
        worker, self._waited = self._next(), 0.0
        batch = self._ready.pop(worker)
        worker.batches += 1
        worker.request()
        self._ages.append(self._updates() - int(batch[VERSION].min()))
        self.policy_age.fill_(max(self._ages))
        return batch

    def has_batch(self) -> bool:
        """Wait at most half a second for the batch to be learned from next; replace workers that fail."""
        self._copy_if_due()
        self._receive(0.0)
        for worker in [w for w in self._workers if w not in self._ready and w.lost()]:
            self._replace(worker, "ended")
        if self._next() is not None:
            return True
        began = time.monotonic()
        self._receive(0.5)
        self._waited += time.monotonic() - began
        first = self._oldest_if_due()
        for worker in [w for w in self._workers if w not in self._ready]:
            patience = self.wait if worker.batches else max(self.wait, START)
            is_awaited = first in (None, worker) and self._waited > self.wait
            if (is_awaited or worker.is_starting) and worker.silent() > patience:
                self._replace(worker, f"did not answer for {patience:g} s")
        return self._next() is not None

    def shutdown(self) -> None:
        """End all workers, those that have not started yet included; 5 s at most."""
        end = time.monotonic() + 5.0
        for worker in self._workers:
            worker.kill()
        started = [*self._workers, *self._hung]
        while any(worker.is_starting for worker in started) and time.monotonic() < end:
            # TorchRL hands out no collector yet, and Python would wait for its processes.
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
            time.sleep(0.05)
        for worker in self._workers:
            worker.thread.join(max(0.0, end - time.monotonic()))

    def _start(self, number: int, streams: Tensor) -> Worker:
        make = partial(self._make, number, len(self._past[number]))
        worker = Worker(make, streams, lambda: self._weights, self._done)
        worker.request()
        return worker

    def _copy_if_due(self) -> None:
        is_old = self._updates() - int(self._weights["version"]) >= self.weights_every
        if is_old or bool(self._weights["uniform"]) != self._policy.uniform:
            self._weights = learner_weights(self._policy, self._updates())

    def _next(self) -> Worker | None:
        """The worker whose batch is to be learned from next; None while it plays."""
        first = self._oldest_if_due()
        if first is not None:
            return first if first in self._ready else None
        return next(iter(self._ready), None)

    def _receive(self, timeout: float) -> None:
        """Take what has come; wait so long for the first of it."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker, found = self._done.get(timeout=timeout)
                timeout = 0.0
                if worker not in self._workers:
                    continue  # of one that was replaced
                if isinstance(found, BaseException):
                    self._replace(worker, f"failed ({_line(found)})", found)
                else:
                    self._ready[worker] = found

    def _oldest_if_due(self) -> Worker | None:
        """The worker with the oldest weights, if it has to come first for them not to grow old."""
        playing = [worker for worker in self._workers if worker.version is not None]
        if not playing:
            return None
        oldest = min(playing, key=lambda worker: worker.version)
        ahead = len(self._workers) * self.updates_per_batch
        due = self._updates() + ahead - oldest.version > self.max_policy_age
        return oldest if due else None

    def _replace(self, worker: Worker, why: str, error: BaseException | None = None) -> None:
        number = self._workers.index(worker)
        self._ready.pop(worker, None)
        worker.kill()
        if not worker.batches and self._past[number][-1:] == [0]:
            raise ChildProcessError(
                f"collector: worker {number} {why}, and so did the one before it; neither played "
                "a batch"
            ) from error
        lives = self._past[number]
        lives.append(worker.batches)
        if len(lives) > MOST_LIVES and max(lives[-MOST_LIVES:]) < SHORT:
            raise ChildProcessError(
                f"collector: worker {number} {why}; its last {MOST_LIVES} lives were "
                f"{lives[-MOST_LIVES:]} batches. Look at the env, above."
            ) from error
        log.warning("collector: worker %d %s and is replaced; its envs begin again", number, why)
        self._hung += [worker] if worker.is_starting else []
        self._workers[number] = self._start(number, worker.streams)


def _line(error: BaseException) -> str:
    # TorchRL's number of the process within a collector, where each has only one.
    text = " ".join(str(error).split()).removeprefix("Worker 0 ")[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
