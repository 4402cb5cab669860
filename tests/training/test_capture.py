"""What a CUDA graph asks of an update, held without a GPU.

A `Recorder` does on a CPU what a graph does on a GPU: it writes down every operator with the very
tensors that it read and wrote, and plays them again without any Python in between. What Python
decided while it was recorded (a learning rate as a float, a state that was replaced instead of
changed, a number that was read) would stay as it was, and the weights would go another way.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tiny import Tiny, make_tiny, random_records, tiny_with
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mario_dreamer import checks
from mario_dreamer.config import build
from mario_dreamer.training.acceleration import GraphedUpdate
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.loop import learn

CPU = torch.device("cpu")
# Operators that hand a value or a shape to the host, or bring one from there.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "bincount",
    "repeat_interleave", "lift_fresh", "is_nonzero", "equal",
    "normal",  # with a tensor of deviations it asks whether all are above 0
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """A CUDA graph on a CPU: operators with their tensors, recorded once, played again."""

    def __init__(self, forbidden: set[str] = WAITING) -> None:
        super().__init__()
        self.forbidden = forbidden
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Any, Any]] = {}

    def __enter__(self) -> Recorder:
        self.chances = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """A graph does nothing while it is recorded, so all is put back as it was."""
        super().__exit__(*error)
        for storage, content in self.before.values():
            storage.copy_(content)
        torch.set_rng_state(self.chances)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # On a CPU alone torch 2.11's quantile compares two flags.
        old = torch.__version__ < "2.12" and name == "equal" and args[0].dtype == torch.bool
        assert name not in self.forbidden or old, f"{name}: the host would wait for the device"
        for tensor in _tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.before:
                self.before[storage.data_ptr()] = storage, storage.clone()
        read = _alias((args, kwargs or {}))  # a later operator may change a tensor's shape in place
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, *read, _tensors(_alias(out))))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, written in self.calls:
            args, kwargs = _alias((args, kwargs))
            for old, new in zip(written, _tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _alias(tree: Any) -> Any:
    """The same memory under tensors of its own."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Stream:
    """The one stream that a CPU has, and its events."""

    def __init__(self, device: Any = None, priority: int = 0) -> None: ...
    def wait_stream(self, other: Any) -> None: ...
    def wait_event(self, event: Any) -> None: ...
    def record(self) -> None: ...


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's graphs and streams, with a CPU below; tensors say they lie on a GPU."""

    @contextlib.contextmanager
    def nothing(*args: Any, **options: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "device", nothing)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorder)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: graph)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks `is_cuda` takes the way it takes on a GPU; Adam may be captured here too."""
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(Tensor, "is_cpu", property(lambda tensor: False))
    monkeypatch.setattr(
        sys.modules["torch.optim.adam"],  # torch.optim hides the module behind the class
        "_get_capturable_supported_devices",
        lambda *args, **options: ["cpu", "meta"],
    )


def make_learner(*changes: str) -> Learner:
    learner = make_tiny("optimizer.warmup=20", *changes).learner
    learner.finite.waits = False  # a GPU waits for no number
    return learner


def batches(count: int) -> list[TensorDict]:
    generator = torch.Generator().manual_seed(5)
    records = [random_records(length=3) for _ in range(count)]
    for batch in records:
        batch["reward"] = torch.randn(batch["reward"].shape, generator=generator)
    return records


RECIPES = {
    "nature": [],
    "nature's convolutions": ["encoder=cnn", "decoder=cnn", "rssm/sequence_model=block_gru"],
    "adam with clipping": ["optimizer=adam_agc"],
    "the seed": [
        "rssm=rssm_v1", "head@reward=twohot_symlog", "head@critic=twohot_symlog", "loss=seed_v1",
        "optimizer=adam", "optimizer.lr={world_model: 1e-3, actor: 1e-3, critic: 1e-3}",
    ],
}  # fmt: skip


SOME_SLOW = [
    pytest.param(name, marks=[] if name in ("nature", "the seed") else pytest.mark.slow)
    for name in RECIPES
]


@pytest.mark.usefixtures("taped", "as_on_a_gpu")
@pytest.mark.parametrize("recipe", SOME_SLOW)
def test_a_recorded_update_learns_what_the_plain_one_learns(recipe: str) -> None:
    """Bit for bit over warm-up, recording and replays: weights, optimiser, norm, slow critic."""
    plain, graphed = make_learner(*RECIPES[recipe]), make_learner(*RECIPES[recipe])
    graphed._step = GraphedUpdate(graphed.step, CPU, warmup=1)
    said: list[list[TensorDict]] = []
    for learner in (plain, graphed):
        torch.manual_seed(7)
        said.append([learner.update(batch.clone()).clone() for batch in batches(4)])
    for name, value in plain.modules.state_dict().items():
        assert torch.equal(value, graphed.modules.state_dict()[name]), name
    assert float(graphed.optimizer.updates) == plain.updates == graphed.updates == 4
    for before, after in zip(*said, strict=True):
        assert torch.equal(before["total"], after["total"])
        assert torch.equal(before["posterior", "deter"], after["posterior", "deter"])
    assert len({float(metrics["total"]) for metrics in said[1]}) == 4


@pytest.mark.usefixtures("taped", "as_on_a_gpu")
def test_a_recorded_update_with_nan_leaves_weights_and_range() -> None:
    learner = make_learner()
    learner._step = GraphedUpdate(learner.step, CPU, warmup=1)
    spoiled = batches(1)[0]
    spoiled["prev_action"].fill_(float("nan"))  # states, losses and returns
    for batch in batches(3):
        learner.update(batch)
    before = [value.clone() for value in learner.returns.norm.buffers()]
    learner.update(spoiled)
    assert all(value.isfinite().all() for value in learner.optimizer.parameters())
    assert all(map(torch.equal, learner.returns.norm.buffers(), before))
    assert float(learner.finite.spoiled) == 1


class OneDevice(TorchDispatchMode):
    """Refuse every operator that waits for the device, or sees a tensor of another one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITING, name
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            assert not isinstance(leaf, Tensor) or leaf.device.type == "meta", name
        return out


@pytest.fixture
def meta_step(as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TensorDict]:
    """Updates on `meta`: no tensor has a value there, so none can be read."""

    def step(tiny: Tiny, records: TensorDict, updates: int = 1) -> TensorDict:
        monkeypatch.setattr(build, "resolve_device", lambda name: torch.device("meta"))
        monkeypatch.setattr(checks, "_being_traced", lambda: True)  # it refuses what has no values
        learner = build.make_learner(tiny.cfg, build.make_agent(tiny.cfg, tiny.env))
        for group in learner.optimizer.optimizer.param_groups:
            group["fused"] = False  # there is no such kernel for `meta`
        records = records.to("meta")
        for _ in range(updates):
            with OneDevice():
                metrics = learner.step(records)
        return metrics

    return step


@pytest.mark.parametrize(
    "recipe", ["nature", *(pytest.param(n, marks=pytest.mark.slow) for n in list(RECIPES)[2:])]
)
def test_an_update_touches_nothing_outside_its_device(recipe: str, meta_step: Any) -> None:
    tiny = make_tiny(*RECIPES[recipe])
    metrics = meta_step(tiny, random_records(), updates=2)  # the first makes the optimiser's state
    assert metrics["total"].device.type == "meta"


# Each operator costs its time on `meta`: the fewest steps that learn and dream.
BRIEF = ["batch_length=2", "imag_horizon=1"]


@pytest.mark.parametrize("actor", ["bounded_normal", "tanh_normal", "truncated_normal"])
def test_no_kind_of_continuous_action_waits(actor: str, meta_step: Any) -> None:
    tiny = tiny_with("pendulum.make_pendulum", f"actor={actor}", *BRIEF).fill(4)
    for grad in ("reinforce", "dynamics"):
        tiny.cfg.actor_grad = grad
        assert meta_step(tiny, tiny.replay.sample())["entropy"].device.type == "meta"


@pytest.mark.parametrize("kind", ["binary", "indices"])
def test_no_kind_of_several_choices_waits(kind: str, meta_step: Any) -> None:
    tiny = tiny_with("echo_env.make_echo_env", f"+env.kind={kind}", *BRIEF).fill(4)
    assert meta_step(tiny, tiny.replay.sample())["entropy"].device.type == "meta"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_update_reads_no_value_back_from_the_device() -> None:
    """The whole of `learn`: sample, update, write-back. Only the host's own books are read."""
    tiny = make_tiny().fill()
    tiny.learner.finite.waits = False
    learn(tiny.replay, tiny.learner)
    with Recorder(WAITING - {"lift_fresh"}) as recorder:  # fresh windows come pinned
        learn(tiny.replay, tiny.learner)
    assert len(recorder.calls) > 500


@pytest.mark.parametrize("optimizer", ["laprop", "adam_agc"])
def test_an_optimiser_moves_between_cpu_and_gpu(
    optimizer: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """From a CPU to a GPU the count of updates goes along and the rate becomes a tensor; and back."""
    here = make_learner(f"optimizer={optimizer}")
    for batch in batches(3):
        here.update(batch)
    request.getfixturevalue("as_on_a_gpu")
    there = make_learner(f"optimizer={optimizer}")
    there.load_state_dict(here.state_dict())
    group = there.optimizer.optimizer.param_groups[0]
    assert group["capturable"] is True and isinstance(group["lr"], Tensor)
    state = next(iter(there.optimizer.optimizer.state.values()))
    assert float(state["step"]) == 3 and state["step"].dtype is torch.float32
    there.update(batches(1)[0])
    monkeypatch.undo()
    back = make_learner(f"optimizer={optimizer}")
    back.load_state_dict(there.state_dict())
    group = back.optimizer.optimizer.param_groups[0]
    assert not group.get("capturable", False) and isinstance(group["lr"], float)
    back.update(batches(1)[0])
    assert float(back.optimizer.updates) == 5
