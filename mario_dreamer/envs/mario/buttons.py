"""Transforms from the agent's actions to controller bytes: sticky actions and no-op starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.data import Binary, Bounded, Composite, OneHot
from torchrl.envs import EnvBase, Transform

from mario_dreamer.envs.base import read_action
from mario_dreamer.envs.mario.emulator import button_byte
from mario_dreamer.envs.torchrl import transforms_of
from mario_dreamer.keys import ACTION, EXECUTED

PAUSE = -1  # in place of a byte: no frame is played

# SplitMix64's three constants, as signed integers of 64 bits.
_STEP, _FIRST, _SECOND = (
    number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _mixed(bits: Tensor, shift: int) -> Tensor:
    """Combine the bits with themselves, shifted right without the sign."""
    return bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))


def uniform(seed: Tensor, index: Tensor | int) -> Tensor:
    """Return number `index` of the random sequence of a seed, float64 in [0, 1).

    SplitMix64 (Steele et al. 2014). A number depends on nothing but seed and index, so that an
    env needs no state for its randomness, and any number of envs is drawn at once.

    Args:
        seed: int64 [..., 1].
        index: int64 [..., n]; 0 is the first.
    """
    bits = seed + (index + 1) * _STEP  # integers of 64 bits overflow, as they should
    bits = _mixed(_mixed(bits, 30) * _FIRST, 27) * _SECOND
    bits = _mixed(bits, 31)
    return ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


class PressButtons(Transform):
    """Hold the chosen action's buttons for the K raw frames of a step, now and then sticky.

    With the probability `sticky`, a frame repeats the action of the frame before instead of the
    chosen one (Machado et al. 2018). As in the Arcade Learning Environment, that is drawn for
    every raw frame (`sticky_unit="frame"`), and "noop" is held when an episode begins. `action`
    stays the chosen one. The action held is kept in the TensorDict: `held_action`, int64 [N, 1].

    Args:
        actions: names of the actions, [A].
        frames: K.
        sticky: in [0, 1].
        sticky_unit: "frame", or "step": drawn once per agent step, for all of its frames.
        show_executed: add `executed`, one-hot [N, A], to the next TensorDict: the chosen action
            if at least half of the frames used it, else the one held before; zeros after a reset
            and where neither is in the set.
    """

    def __init__(
        self,
        actions: Sequence[str],
        frames: int,
        sticky: float = 0.0,
        sticky_unit: str = "frame",
        show_executed: bool = False,
    ) -> None:
        super().__init__(in_keys_inv=[ACTION], out_keys_inv=[ACTION])
        self.frames, self.num_actions, self.actions = frames, len(actions), tuple(actions)
        names = (*actions, "noop")
        self.first_held = names.index("noop")
        bytes_ = torch.tensor([button_byte(name) for name in names], dtype=torch.int16)
        self.register_buffer("bytes", bytes_, persistent=False)
        self.sticky, self.draws = sticky, frames if sticky_unit == "frame" else 1
        self.show_executed = show_executed

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        chosen = pressed = read_action(tensordict, self.num_actions).unsqueeze(-1)  # [N, 1]
        if self.sticky:
            held, order = tensordict["held_action"], torch.arange(self.draws)
            index = tensordict["step_count"] * self.draws + order
            sticks = uniform(tensordict["episode_seed"], index) < self.sticky
            sticks = sticks.long().cumprod(-1)  # up to the first frame that takes the new action
            pressed = torch.where(sticks.bool(), held, chosen)  # [N, draws]
        tensordict.set("pressed", pressed)
        buttons = self.bytes[pressed].expand(*chosen.shape[:-1], self.frames)
        return tensordict.set(ACTION, buttons)

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        pressed = tensordict["pressed"]
        if self.sticky:
            next_tensordict.set("held_action", pressed[..., -1:])
        if self.show_executed:
            middle = pressed[..., pressed.shape[-1] // 2]
            executed = one_hot(middle, self.num_actions + 1)
            next_tensordict.set(EXECUTED, executed[..., : self.num_actions])
        return next_tensordict

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        shape = tensordict_reset.batch_size
        if self.sticky:
            held = torch.full((*shape, 1), self.first_held)
            tensordict_reset.set("held_action", held)
        if self.show_executed:
            zeros = torch.zeros(*shape, self.num_actions, dtype=torch.int64)
            tensordict_reset.set(EXECUTED, zeros)
        return tensordict_reset

    def transform_input_spec(self, input_spec: Composite) -> Composite:
        """Ask for a one-hot action in place of the buttons."""
        shape = (*input_spec.shape, self.num_actions)
        input_spec["full_action_spec", ACTION] = OneHot(self.num_actions, shape, dtype=torch.int64)
        return input_spec

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Describe `held_action` and `executed`."""
        shape, count = observation_spec.shape, self.num_actions
        if self.sticky:
            observation_spec["held_action"] = Bounded(0, count, (*shape, 1), dtype=torch.int64)
        if self.show_executed:
            observation_spec[EXECUTED] = Binary(count, (*shape, count), dtype=torch.int64)
        return observation_spec


class NoopStart(Transform):
    """Open each episode with a random number of raw frames without a button.

    Args:
        most: the number is drawn from 0 to this.
        frames: K, raw frames per step of the env below.

    Raises:
        RuntimeError: at a reset, when the episode ends before the agent's first action.
    """

    def __init__(self, most: int, frames: int) -> None:
        super().__init__()
        self.most, self.frames = most, frames

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        seed = tensordict_reset["episode_seed"]
        count = (uniform(seed, -1) * (self.most + 1)).long()  # [N, 1]
        opened = tensordict.get("_reset", None)
        if opened is not None:
            count = count * opened  # the others pause
        columns = -(-int(count.max()) // self.frames) * self.frames
        waits = torch.arange(columns) < columns - count
        buttons = torch.where(waits, PAUSE, 0).to(torch.int16)  # [N, columns]
        failed = torch.zeros_like(count, dtype=torch.bool)
        for row in buttons.split(self.frames, -1) if columns else ():
            played = self.parent._step(tensordict_reset.set(ACTION, row))
            failed |= played["truncated"] & (count > 0)
            tensordict_reset = played.exclude("reward")
        if failed.any():  # of an emulator; its next one opens without no-ops
            tensordict_reset = self.parent._reset(tensordict_reset.set("_reset", failed))
        if (tensordict_reset["terminated"] & (count > 0)).any():
            raise RuntimeError(
                f"env.random_noops={self.most}: an episode ended during its opening no-ops. "
                "Set env.random_noops=30 or less."
            )
        return tensordict_reset


def action_names(env: EnvBase) -> tuple[str, ...]:
    """Return the names of the actions, [A]: buttons in Mario, else "action 0" and so on."""
    for pressing in transforms_of(env, PressButtons):
        return pressing.actions
    return tuple(f"action {index}" for index in range(env.action_spec.shape[-1]))
