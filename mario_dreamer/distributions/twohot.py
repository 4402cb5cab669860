"""symlog, symexp and TwoHot: a scalar of any size as a distribution over fixed bins."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from mario_dreamer.distributions.unchecked import Unchecked
from mario_dreamer.precision import widened


def symlog(x: Tensor) -> Tensor:
    """Squash large values and keep small ones; the inverse of `symexp`.

    Paper: arXiv:2301.04104, "Robust predictions".  symlog(x) = sign(x) * log(1 + |x|)

    Args:
        x: any shape and range.

    Returns:
        The same shape.

    >>> symlog(torch.tensor([-15.0, 0.0, 1000.0]))
    tensor([-2.7726,  0.0000,  6.9088])
    """
    return torch.where(x == 0, x, x.sign() * x.abs().log1p())  # abs has no slope at 0, symlog 1


def symexp(x: Tensor) -> Tensor:
    """Undo `symlog`.  symexp(x) = sign(x) * (exp(|x|) - 1), the shape of x."""
    return torch.where(x == 0, x, x.sign() * x.abs().expm1())


def make_bins(kind: str = "symexp", bins: int = 255, low: float = -20, high: float = 20) -> Tensor:
    """Bin positions of a `TwoHot`, mirrored about an exact 0, [bins] float32.

    Paper: arXiv:2301.04104, "Critic learning".  B = symexp([-20 .. +20])

    Args:
        kind: "symlog": evenly spaced from low to high; "symexp": symexp of those.
        bins: how many.
        low, high: the ends before symexp.

    Raises:
        ValueError: unknown kind, bins is even or below 3, or low is not -high.
    """
    if kind not in ("symexp", "symlog"):
        raise ValueError(f"TwoHot: kind must be 'symexp' or 'symlog'; got {kind!r}.")
    if bins < 3 or bins % 2 == 0:
        raise ValueError(
            f"TwoHot needs an odd number of bins (3 or more), so that 0 is one of them; got {bins}."
            f" Use bins={max(3, bins + 1)}."
        )
    if low != -high or high <= 0:
        raise ValueError(
            f"TwoHot's bins are symmetric about 0: low must be -high; got low={low}, high={high}."
        )
    below = torch.linspace(low, 0.0, bins // 2 + 1, dtype=torch.float64)  # low .. 0
    even = torch.cat([below, -below[:-1].flip(0)]).float()
    return even if kind == "symlog" else symexp(even.double()).float()


class TwoHot(Unchecked):
    """A scalar of unknown scale, a return or a reward, as weights on two neighbouring bins.

    Paper: arXiv:2301.04104, "Critic learning" (symexp two-hot loss).

        kind "symexp":  mean = sum_k p_k * b_k               b = symexp([-20 .. 20])   (Nature)
        kind "symlog":  mean = symexp(sum_k p_k * b_k)       b = [-20 .. 20]           (paper v1)
        log_prob(x)  =  (1 - w) * log p_k + w * log p_{k+1}  where (1 - w) * b_k + w * b_{k+1} = x
                                                             (symlog(x) for kind "symlog")

    Only "symexp" is unbiased: of 0 and 1000, equally likely, its mean is 500; "symlog": 30.6.

    Args:
        logits: [..., bins], any float type; the maths is done in float32, of float64 in
            float64.
        kind: in which space the bins lie.
        bins: how many (odd), or the positions themselves, [bins], to build them only once.
        low, high: ends of the bins before symexp; a target beyond them counts as the end.

    Raises:
        ValueError: see `make_bins`; or there are not as many logits as bins.
    """

    TENSORS = ("logits", "_normalizer")

    def __init__(
        self,
        logits: Tensor,
        kind: str = "symexp",
        bins: int | Tensor = 255,
        low: float = -20.0,
        high: float = 20.0,
    ) -> None:
        if not isinstance(bins, Tensor):
            bins = make_bins(kind, bins, low, high).to(logits.device)
        if logits.shape[-1:] != bins.shape:
            raise ValueError(
                f"TwoHot: logits must be [..., {len(bins)}], one per bin; got {list(logits.shape)}."
            )
        super().__init__(Size((*logits.shape[:-1], 1)))
        self.logits, self.kind = widened(logits), kind
        self.bins = bins.to(self.logits.dtype)
        self._normalizer: Tensor | None = None  # the same for every target

    @property
    def probs(self) -> Tensor:
        """Probability of each bin, [..., bins]."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        """The scalar it stands for, [..., 1]; exactly 0 for uniform logits."""
        half = len(self.bins) // 2
        probs = self.probs
        # Mirrored pairs first: equal weights cancel to the last bit, which a left-to-right sum
        # over bins as far apart as 1e-1 and 1e8 would not do.
        pairs = probs[..., half + 1 :] - probs[..., :half].flip(-1)
        mean = (pairs * self.bins[half + 1 :]).sum(-1, keepdim=True)  # [..., bins] -> [..., 1]
        return symexp(mean) if self.kind == "symlog" else mean

    @property
    def mode(self) -> Tensor:
        """Value of the likeliest bin, [..., 1]. To predict, use `mean`."""
        value = self.bins[self.logits.argmax(-1, keepdim=True)]
        return symexp(value) if self.kind == "symlog" else value

    @property
    def deterministic_sample(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the cross entropy to the two-hot of x: [..., 1] -> [...]. No gradient to x."""
        lower, weight, _ = torch.broadcast_tensors(*self.encode(x), self.logits[..., :1])
        logits = self.logits.expand(*lower.shape[:-1], -1)
        below, above = logits.gather(-1, lower), logits.gather(-1, lower + 1)
        chosen = torch.lerp(below, above, weight).squeeze(-1)  # two bins, no dense target
        if self._normalizer is None:
            self._normalizer = self.logits.logsumexp(-1)
        return chosen - self._normalizer

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where x lies between the bins.

        Args:
            x: [..., 1], any range.

        Returns:
            k, index of the bin at or below x, [..., 1] int64 in [0, bins - 2]; w, weight on bin
            k + 1, [..., 1] in [0, 1].
        """
        x = x.to(self.bins.dtype)
        if self.kind == "symlog":
            x = symlog(x)
        lower = torch.searchsorted(self.bins, x.contiguous(), right=True) - 1
        lower = lower.clamp(0, len(self.bins) - 2)
        left, right = self.bins[lower], self.bins[lower + 1]
        return lower, ((x - left) / (right - left)).clamp(0.0, 1.0)
