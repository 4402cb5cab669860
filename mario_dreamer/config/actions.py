"""Choose the actor's head by the env's action spec."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torchrl.data import Binary, Bounded, MultiOneHot, OneHot, TensorSpec, Unbounded

from mario_dreamer.networks import action_heads


def describe_actions(spec: TensorSpec) -> tuple[str, dict[str, Any]]:
    """Return the kind of an action spec [N, A], and the sizes that a head of it needs.

    Returns:
        "onehot", "binary" or "continuous" with `action_dim`, A; or "multi_onehot" with `choices`,
        whose sum is A.

    Raises:
        ValueError: actions that no head can write.
    """
    if isinstance(spec, MultiOneHot):
        return "multi_onehot", {"choices": [box.n for box in spec.space]}
    kinds = {OneHot: "onehot", Binary: "binary", Bounded: "continuous", Unbounded: "continuous"}
    kind = next((kind for cls, kind in kinds.items() if isinstance(spec, cls)), None)
    is_number = kind != "continuous" or spec.dtype.is_floating_point
    if kind is None or not is_number or len(spec.shape) != 2:
        raise ValueError(
            f"the env's action spec must be [N, A] of one-hots, several one-hots, zeros and ones, "
            f"or floats; got {type(spec).__name__} {list(spec.shape)} {spec.dtype}. "
            "Append a transform to the env, such as torchrl.envs.FlattenAction."
        )
    return kind, {"action_dim": spec.shape[-1]}


def action_sizes(actor: DictConfig, spec: TensorSpec) -> dict[str, Any]:
    """Return what the configured actor head is built with, besides feat_dim.

    Args:
        actor: the `actor` slot of a configuration.
        spec: the env's action spec, [N, A].

    Raises:
        ValueError: the head writes actions of another kind.
    """
    kind, sizes = describe_actions(spec)
    target = str(actor.get("_target_")) if OmegaConf.is_dict(actor) else ""
    name = target.removeprefix(f"{action_heads.__name__}.")
    head = getattr(action_heads, name, None)
    if head is action_heads.make_action_head:
        return {"kind": kind, **sizes}
    if getattr(head, "kind", kind) != kind:
        raise ValueError(
            f"actor: {name} writes {head.kind} actions, the env takes {kind} ones "
            f"({type(spec).__name__} {list(spec.shape)}). Use actor=auto."
        )
    return sizes
