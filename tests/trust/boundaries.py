"""Public modules that check their input: a good input of each, and ways to break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from tiny import make_tiny, random_records
from torch import Tensor

from mario_dreamer.replay import make_replay, to_records

FLOATS = {torch.float32}
BYTES = {torch.uint8}
FLAGS = {torch.bool}
INDEX = {torch.int64}
ANY_FLOAT = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
NUMBERS = ANY_FLOAT | BYTES | {torch.int64, torch.int32}
ONE_HOT = NUMBERS | FLAGS
DTYPES = [
    torch.float64, torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.int32,
    torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip

Key = str | tuple[str, ...]
B, T, N, H, A, D, S, K, E, SIDE = 3, 5, 4, 3, 3, 16, 3, 4, 32, 16


@dataclass
class Boundary:
    """One public module and a good input of it.

    Args:
        call: given the inputs by key; None for those that are missing.
        inputs: a good tensor for each key.
        takes: dtypes that a key may have; any other has to be refused.
        loose: so many leading dimensions of a key may be of any size and number.
        free: dimensions of a key that may be of any size but 0.
        optional: keys that may be missing.
    """

    call: Callable[[dict[Key, Any]], Any]
    inputs: dict[Key, Tensor]
    takes: dict[Key, set[torch.dtype]]
    loose: dict[Key, int] = field(default_factory=dict)
    free: dict[Key, set[int]] = field(default_factory=dict)
    optional: set[Key] = field(default_factory=set)


def broken(
    value: Tensor, takes: set[torch.dtype], loose: int = 0, free: set[int] = frozenset()
) -> list[tuple[str, Any, bool]]:
    """Return ways to break a tensor: name, broken tensor, whether it has to be refused."""
    ways: list[tuple[str, Any, bool]] = [("missing", None, True), ("text", "text", True)]
    for dtype in DTYPES:
        if dtype != value.dtype:
            ways.append((f"dtype {dtype}", value.to(dtype), dtype not in takes))
    ways.append(("on meta", value.to("meta"), True))
    for dim, size in enumerate(value.shape):
        strict = dim >= loose and dim not in free
        more = torch.cat([value, value.narrow(dim, size - 1, 1)], dim)
        ways.append((f"dim {dim} longer", more, strict))
        ways.append((f"dim {dim} empty", value.narrow(dim, 0, 0), dim >= loose))
        ways.append((f"dim {dim} gone", value.select(dim, 0), dim >= loose))
        ways.append((f"dim {dim} added", value.unsqueeze(dim), not loose or dim > loose))
        if size > 1:
            ways.append((f"dim {dim} shorter", value.narrow(dim, 0, size - 1), strict))
            if size > 2:
                ways.append((f"dim {dim} one", value.narrow(dim, 0, 1), strict))
        if dim and size != value.shape[dim - 1]:
            swapped = value.transpose(dim - 1, dim)
            ways.append((f"dims {dim - 1}, {dim} swapped", swapped, dim - 1 >= loose))
    ways.append(("no dims", value.flatten()[0], True))
    ways.append(("dim at the end", value.unsqueeze(-1), True))
    return ways


def as_tensordict(inputs: dict[Key, Any], batch: list[int]) -> TensorDict:
    """A TensorDict that holds the inputs, of the batch size where they allow it."""
    made = TensorDict({}, [])
    for key, value in inputs.items():
        if value is not None:
            made.set(key, value) if isinstance(value, Tensor) else made.set_non_tensor(key, value)
    try:
        made.batch_size = batch
    except RuntimeError:
        pass
    if "next" in made:
        try:
            made["next"].batch_size = batch
        except RuntimeError:
            pass
    return made


def one_hot(classes: int, *shape: int) -> Tensor:
    return torch.eye(classes)[torch.randint(classes, shape)]


def flags(*shape: int) -> Tensor:
    return torch.zeros(*shape, 1, dtype=torch.bool)


def make_boundaries() -> dict[str, Boundary]:
    """All boundaries of a tiny agent, by name."""
    tiny = make_tiny().fill()
    learner, model = tiny.learner, tiny.agent.world_model
    model.requires_grad_(True)
    found: dict[str, Boundary] = {}
    records = dict(random_records(B, T, SIDE, A).items())
    del records["is_last"]
    kinds = {
        "pixels": BYTES | FLOATS, "prev_action": ONE_HOT, "reward": NUMBERS, "is_first": FLAGS,
        "is_terminal": FLAGS, "is_last": FLAGS,
    }  # fmt: skip
    latents = {"prev_deter": torch.zeros(B, T, D), "prev_stoch": torch.zeros(B, T, S, K)}
    kinds |= {"prev_deter": NUMBERS, "prev_stoch": ONE_HOT}
    seen = {key: records[key] for key in ("pixels", "prev_action", "is_first")}
    found["WorldModel"] = Boundary(
        lambda x: model(as_tensordict(x, [B, T])), seen | latents, kinds,
        optional=set(latents),
    )  # fmt: skip
    found["WorldModel.open_loop"] = Boundary(
        lambda x: model.open_loop(as_tensordict(x, [B, T]), 2), dict(seen), kinds
    )
    found["WorldModelLoss"] = Boundary(
        lambda x: learner.world_model_loss(as_tensordict(x, [B, T])), records | latents, kinds,
        optional=set(latents),
    )  # fmt: skip
    found["Learner.update"] = Boundary(
        lambda x: learner.update(as_tensordict(x, [B, T])),
        records | latents | {"is_last": flags(B, T)}, kinds, optional=set(latents),
    )  # fmt: skip
    state = {"deter": torch.randn(N, D), "stoch": one_hot(K, N, S)}
    found["Imagination"] = Boundary(
        lambda x: learner.imagination(as_tensordict(x, [N])), state,
        {"deter": FLOATS, "stoch": FLOATS},
    )  # fmt: skip
    feat = D + S * K
    found["Returns"] = Boundary(
        lambda x: learner.returns(as_tensordict(x, [N])), {"feat": torch.randn(N, H + 1, feat)},
        {"feat": FLOATS}, loose={"feat": 2},
    )  # fmt: skip
    dream = learner.returns(learner.imagination(TensorDict(state, [N]))).detach()
    actor_reads = {key: dream[key] for key in ("feat", "action", "advantage", "weight")}
    found["ActorLoss"] = Boundary(
        lambda x: learner.actor_loss(as_tensordict(x, [N])), actor_reads,
        {"feat": FLOATS, "action": ONE_HOT, "advantage": ANY_FLOAT, "weight": NUMBERS},
    )  # fmt: skip
    critic_reads = {key: dream[key] for key in ("feat", "lambda_return", "weight")}
    number_kinds = {"feat": FLOATS, "lambda_return": NUMBERS, "weight": NUMBERS}
    found["CriticLoss of rollouts"] = Boundary(
        lambda x: learner.critic_loss(as_tensordict(x, [N])), critic_reads, number_kinds
    )
    replayed = {
        "feat": torch.randn(2, 2, feat), "reward": torch.randn(2, 2, 1),
        "is_last": flags(2, 2), "is_terminal": flags(2, 2),
    }  # fmt: skip
    found["CriticLoss of records"] = Boundary(
        lambda x: learner.critic_loss(TensorDict(dict(critic_reads), [N]), as_tensordict(x, [2, 2])),
        replayed, kinds | {"feat": FLOATS},
    )  # fmt: skip
    found |= _replay_boundaries(tiny)
    return found


def _replay_boundaries(tiny: Any) -> dict[str, Boundary]:
    played = tiny.collect(4)
    wanted: list[Key] = [
        "pixels", "is_init", "action", ("next", "pixels"), ("next", "reward"),
        ("next", "terminated"), ("next", "truncated"), ("next", "done"), ("next", "deter"),
        ("next", "stoch"),
    ]  # fmt: skip
    inputs = {key: played[key] for key in wanted}
    kinds: dict[Key, set[torch.dtype]] = {
        "pixels": BYTES, ("next", "pixels"): BYTES, "is_init": FLAGS, "action": ONE_HOT,
        ("next", "reward"): NUMBERS, ("next", "terminated"): FLAGS, ("next", "truncated"): FLAGS,
        ("next", "done"): FLAGS, ("next", "deter"): NUMBERS, ("next", "stoch"): NUMBERS,
    }  # fmt: skip
    ends: set[Key] = {("next", "truncated"), ("next", "done")}

    def extend(x: dict[Key, Any]) -> Any:
        replay = make_replay(400, 2, 3, 5, latents=True)
        replay.extend(played)  # fixes the width of every key
        return replay.extend(as_tensordict(x, [2, 4]))

    rows = tiny.replay.sample()
    newer = {"index": rows["index"], "deter": torch.randn(B, T, D), "stoch": one_hot(K, B, T, S),
             "step_id": rows["step_id"]}  # fmt: skip
    root: list[Key] = ["pixels", "is_init", "deter", "stoch", "prev_action"]
    state = tiny.env.reset()
    return {
        "Replay.extend": Boundary(extend, inputs, kinds, optional=ends),
        "to_records": Boundary(
            lambda x: to_records(as_tensordict(x, [2, 4]), latents=True), inputs,
            kinds | {"pixels": BYTES | FLOATS, ("next", "pixels"): BYTES | FLOATS}, optional=ends,
            free={"action": {2}, ("next", "deter"): {2}, ("next", "stoch"): {2, 3}},
        ),
        "Replay.update_latents": Boundary(
            lambda x: tiny.replay.update_latents(**x), newer,
            {"index": INDEX, "step_id": INDEX, "deter": NUMBERS, "stoch": NUMBERS | BYTES},
        ),
        "Policy": Boundary(
            lambda x: tiny.policy(as_tensordict(x, [2])), {key: state[key] for key in root},
            {"pixels": BYTES | FLOATS, "is_init": FLAGS, "deter": ANY_FLOAT, "stoch": ANY_FLOAT,
             "prev_action": ONE_HOT},
        ),
        "env.step": Boundary(
            lambda x: tiny.env.base_env.step(as_tensordict(x, [2])), {"action": one_hot(A, 2).long()},
            {"action": ONE_HOT},
        ),
    }  # fmt: skip
