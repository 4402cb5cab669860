"""Build what a configuration names, and check that it is what its slot takes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate as build_from
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mario_dreamer.agent.agent import Agent
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.networks.rssm import RSSM

# What a slot's object has, and what it is in words.
HEAD = ("dist",), "a module: feat -> parameters, with dist(parameters)"
LOSS = ("set_keys",), "a TorchRL LossModule"
CONTRACTS = {
    "encoder": (("embed_dim",), "a module: observations [..., *shape] -> [..., embed_dim], also of [B, T]"),
    "decoder": (("dist",), "a module: (deter, stoch) -> mean, with dist(mean)"),
    "rssm": (
        ("deter_dim", "stoch_shape", "feat_dim", "action_dim", "initial", "obs_step", "img_step",
         "imagine_with_action", "feat", "stoch_dist", "kl_loss"),
        "the methods of mario_dreamer.networks.rssm.RSSM",
    ),
    "rssm.sequence_model": ((), "a module: (deter, stoch, action) -> deter"),
    "reward": HEAD, "cont": HEAD, "critic": HEAD,
    "actor": (
        ("dist", "uniform", "action_dtype"), "a mario_dreamer.networks.action_heads.ActionHead"
    ),
    "optimizer": (
        ("optimizer", "step", "zero_grad", "parameters", "state_dict", "load_state_dict"),
        "a mario_dreamer.training.optim.ClippedOptimizer",
    ),
    "optimizer.optimizer": (("param_groups", "step"), "a torch.optim.Optimizer"),
    "replay": (
        ("extend", "sample", "ready", "peek", "state_dict", "load_state_dict", "update_latents"),
        "what mario_dreamer.replay.make_replay returns",
    ),
    "tracker": (("log_metrics", "log_hparams", "log_video"), "a torchrl.record.loggers.Logger"),
    "loss.world_model": LOSS, "loss.actor": (("set_keys", "entropy_scale"), LOSS[1]),
    "loss.critic": LOSS, "loss.returns": (("norm",), "a mario_dreamer.agent.returns.Returns"),
    "loss.discount": (("cont_target", "per_step"), "a mario_dreamer.losses.targets.Discount"),
}  # fmt: skip


def root_cause(error: BaseException) -> BaseException:
    """Return what went wrong first, from below the layers of Hydra."""
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def instantiate(slot: str, cfg: DictConfig, **sizes: Any) -> Any:
    """Build what a configuration names; say which part it was when that cannot be done.

    Args:
        slot: name of the part.
        cfg: with `_target_`.
        sizes: what only the run knows.

    Raises:
        ValueError: naming the part, its class and its options; or no class is named.
    """
    if not (OmegaConf.is_dict(cfg) and "_target_" in cfg):
        folder = folder_of(slot)
        raise ValueError(f"{slot}={cfg!r} names no class. Choose a file of configs/{folder}.")
    try:
        return build_from(cfg, **sizes)
    except (HydraException, TypeError, AttributeError) as error:
        cause = root_cause(error)
        frames = traceback.extract_tb(cause.__traceback__)
        ours = bool(frames) and "/mario_dreamer/" in frames[-1].filename
        if ours and isinstance(cause, ValueError | KeyError | ImportError):
            raise cause from error  # it says what is wrong in words of ours
        options = {name: value for name, value in cfg.items() if name != "_target_"}
        reason = " ".join(str(cause).split()).partition(" Are you sure")[0][:300].rstrip(".")
        cure = f"Compare with the files of configs/{folder_of(slot)}"
        if "is not a package" in reason:
            cure = "There is no such class in it"
        elif "No module named" in reason:
            cure = "Its folder has to be on PYTHONPATH"
        elif "unexpected keyword argument" in reason:
            cure = f"A class of your own gets the options of the file that is chosen: see configs/{folder_of(slot)}"
        raise ValueError(
            f"{slot} cannot be built by {cfg._target_} from {str(options)[:300]}: "
            f"{type(cause).__name__}: {reason}. {cure}."
        ) from error


def make_part(slot: str, cfg: DictConfig, **sizes: Any) -> Any:
    """Build what a configuration names for a slot.

    Raises:
        ValueError: as `instantiate` and `require`.
    """
    return require(slot, instantiate(slot, cfg, **sizes))


def require[T](slot: str, part: T) -> T:
    """Return what was built for a slot.

    Args:
        slot: a key of `CONTRACTS`.

    Raises:
        ValueError: it lacks what the slot takes.
    """
    missing = [name for name in CONTRACTS[slot][0] if not hasattr(part, name)]
    if missing:
        raise _misfit(slot, part, f"lacks {', '.join(missing)}")
    return part


def _misfit(slot: str, part: object, what: str) -> ValueError:
    return ValueError(
        f"{slot}: {type(part).__module__}.{type(part).__qualname__} {what}. Expected "
        f"{CONTRACTS[slot][1]}. Choose a file of configs/{folder_of(slot)}, or see the table of "
        "slots in configs/README.md."
    )


def folder_of(slot: str) -> str:
    """Return the folder in configs/ that holds the choices for a slot, such as head of reward."""
    name = slot.partition(".")[0].removeprefix("vector_")
    return "head" if name in ("reward", "cont", "critic") else name


def _call(slot: str, part: object, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a part of a slot; say which one failed."""
    try:
        return method(*arguments)
    except Exception as error:  # noqa: BLE001 - a class of anybody's may raise anything
        reason = " ".join(str(error).split())[:200]
        reason = f"{type(error).__name__}{f': {reason}' if reason else ''}"
        raise _misfit(slot, part, f"failed with {reason}") from error


def _expect(slot: str, part: object, name: str, value: Tensor, *shape: int) -> None:
    found = tuple(getattr(value, "shape", ()))
    if found != shape:
        raise _misfit(slot, part, f"gives {name} {list(found)} where {list(shape)} is read")


@torch.no_grad()
def rehearse(agent: Agent) -> None:
    """Let each network of a fresh agent on the CPU read two black frames; weights stay as they are.

    Raises:
        ValueError: one fails, or returns another shape than the next one reads.
    """
    parts = nn.ModuleDict(vars(agent))
    modes = [(module, module.training) for module in parts.modules()]
    parts.eval()  # no running statistics are touched
    with torch.random.fork_rng(devices=[]):
        try:
            _rehearse_heads(agent, *_rehearse_state(agent.world_model))
        finally:
            for module, mode in modes:
                module.training = mode


def _rehearse_state(model: WorldModel) -> tuple[Tensor, Tensor]:
    """Encode, take a step; return deter [2, D] and stoch [2, S, K]."""
    rssm, embeds = model.rssm, []
    for key, encoder in model.encoder.encoders.items():
        frame = torch.zeros(2, *model.encoder.shapes[key])
        embed = _call("encoder", encoder, encoder, frame)
        _expect("encoder", encoder, "an embedding", embed, 2, encoder.embed_dim)
        embeds_of_time = _call("encoder", encoder, encoder, frame[:, None].expand(2, 3, *frame.shape[1:]))
        _expect("encoder", encoder, "of [2, 3, ...] an embedding", embeds_of_time, 2, 3, encoder.embed_dim)
        embeds.append(embed)
    deter, stoch = _call("rssm", rssm, rssm.initial, 2, "cpu")
    action, is_first = torch.zeros(2, rssm.action_dim), torch.ones(2, 1, dtype=torch.bool)
    if isinstance(rssm, RSSM):
        dynamics = rssm.sequence_model
        read = _call("rssm.sequence_model", dynamics, rssm.read_action, action)
        after = _call("rssm.sequence_model", dynamics, dynamics, deter, stoch, read)
        _expect("rssm.sequence_model", dynamics, "deter", after, 2, rssm.deter_dim)
    embed = torch.cat(embeds, -1)
    deter, stoch, *_ = _call("rssm", rssm, rssm.obs_step, deter, stoch, action, embed, is_first)
    deter, stoch, *_ = _call("rssm", rssm, rssm.img_step, deter, stoch, action)
    _expect("rssm", rssm, "deter", deter, 2, rssm.deter_dim)
    _expect("rssm", rssm, "stoch", stoch, 2, *rssm.stoch_shape)
    _expect("rssm", rssm, "feat", rssm.feat(deter, stoch), 2, rssm.feat_dim)
    return deter, stoch


def _rehearse_heads(agent: Agent, deter: Tensor, stoch: Tensor) -> None:
    """Predict everything that is learned, and draw an action."""
    model, feat = agent.world_model, agent.world_model.rssm.feat(deter, stoch)
    for key, module in model.decoders.items():
        target = to_model_input(torch.zeros(2, *model.encoder.shapes[key]))
        _likelihood("decoder", module.head, (deter, stoch), target)
    for slot, module in (("reward", model.reward), ("cont", model.cont), ("critic", agent.critic)):
        dist = _likelihood(slot, module.head, (feat,), torch.zeros(2, 1))
        _expect(slot, module.head, "a mean", dist.mean, 2, 1)
    head = agent.actor.head
    params = _call("actor", head, head, feat)
    action = _call("actor", head, lambda: head.dist(params).sample())
    _expect("actor", head, "an action", action, 2, model.rssm.action_dim)
    _likelihood("actor", head, (feat,), action)


def _likelihood(slot: str, head: Any, inputs: tuple[Tensor, ...], target: Tensor) -> Any:
    """Return a head's distribution, which gives a log-probability of the target, [2]."""
    dist = _call(slot, head, lambda: head.dist(head(*inputs)))
    _expect(slot, head, "a log_prob", _call(slot, head, lambda: dist.log_prob(target)), 2)
    return dist
