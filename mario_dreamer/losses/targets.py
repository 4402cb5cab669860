"""Discount, lambda-return and continuation weights, for losses and returns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mario_dreamer.checks import check
from mario_dreamer.networks.regions import region


class Discount:
    """The one discount of the agent, for the continue head, imagination and replay.

    Paper: arXiv:2301.04104, "Actor critic learning": gamma = 1 - 1/333.

    Args:
        gamma: discount per agent step, in (0, 1].
        learned: True (Nature): the continue head is taught gamma * c_t, so its probability is
            already discounted. False (paper v1, the seed): it is taught c_t, and gamma is
            multiplied in afterwards.

    Raises:
        ValueError: when gamma lies outside (0, 1].
    """

    # Not a dataclass: Hydra would take an instance apart when it passes through `instantiate`.
    def __init__(self, gamma: float = 1 - 1 / 333, learned: bool = True) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"Discount: gamma must lie in (0, 1], got {gamma}.")
        self.gamma = gamma
        self.learned = learned

    def cont_target(self, is_terminal: Tensor) -> Tensor:
        """Return what the continue head is to predict, in [0, 1], shaped as `is_terminal`."""
        return (~is_terminal).float() * (self.gamma if self.learned else 1.0)

    def per_step(self, cont: Tensor) -> Tensor:
        """Return gamma * c_t, whichever of the two the continue head predicts."""
        return cont if self.learned else self.gamma * cont


def lambda_return(
    reward: Tensor, value: Tensor, discount: Tensor, is_last: Tensor | None, lmbda: float
) -> Tensor:
    """Mix n-step returns of every length, longer ones with falling weight.

    Paper: arXiv:2301.04104, "Critic learning". The reward belongs to the state it arrives with:

        R_{L-1} = v_{L-1}
        R_t     = r_{t+1} + d_{t+1} * ((1 - k_{t+1}) * v_{t+1} + k_{t+1} * R_{t+1})
        k_t     = lmbda, but 0 where the record at t is the last of its episode

    Args:
        reward: r_t, [..., L, 1]; r_0 is not used.
        value: v_t to bootstrap from, [..., L, 1].
        discount: d_t = gamma * c_t, [..., L, 1], in [0, 1]; 0 where the episode ended.
        is_last: t closes its episode, [..., L, 1] bool; None where no episode is cut.
        lmbda: lambda, in [0, 1].

    Returns:
        R_t for t = 0 .. L-2, [..., L - 1, 1].

    Raises:
        ValueError: the shapes differ, or L is 1.
    """
    fields = {"reward": reward, "value": value, "discount": discount}
    fields = {name: (tensor, "... T+1 1: number") for name, tensor in fields.items()}
    if is_last is not None:
        fields["is_last"] = (is_last, "... T+1 1: flag")
    check("lambda_return", None, {}, fields)
    numbers = (x if x.is_floating_point() else x.float() for x in (reward, value, discount))
    return _lambda_return(*numbers, is_last, lmbda)


@region
def _lambda_return(
    reward: Tensor, value: Tensor, discount: Tensor, is_last: Tensor | None, lmbda: float
) -> Tensor:
    trace = torch.full_like(value, lmbda)
    if is_last is not None:
        trace = trace * (~is_last).to(value.dtype)
    # R_t = direct_t + carry_t * R_{t+1} holds for R_{t + ahead} too, once the steps between are put
    # together; `ahead` doubles each time, so that 63 steps take six rounds.
    direct = torch.cat([(reward + discount * (1 - trace) * value)[..., 1:, :], value[..., -1:, :]], -2)
    carry = F.pad((discount * trace)[..., 1:, :], (0, 0, 0, 1))
    ahead = 1
    while ahead < direct.shape[-2]:
        direct = direct + carry * F.pad(direct[..., ahead:, :], (0, 0, 0, ahead))
        carry = carry * F.pad(carry[..., ahead:, :], (0, 0, 0, ahead))
        ahead *= 2
    return direct[..., :-1, :]


def continuation_weights(discount: Tensor, first: Tensor) -> Tensor:
    """Weigh each imagined state by the probability that the episode still goes on there.

        w_0 = first,   w_t = first * d_1 * ... * d_t

    Args:
        discount: d_t, [..., L, 1].
        first: w_0, [..., 1]: the probability that the episode goes on at the start state itself.

    Returns:
        weights, [..., L, 1], in [0, 1].
    """
    return torch.cumprod(torch.cat([first[..., None, :], discount[..., 1:, :]], dim=-2), dim=-2)
