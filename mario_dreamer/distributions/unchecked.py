"""What the distributions share: torch's interface, without its checks of values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Self

from torch import Size, Tensor
from torch.distributions import Distribution


class Unchecked(Distribution):
    """A torch distribution, for TorchRL's modules and torch's `kl_divergence`, that reads no value.

    A check of values would make the host wait for the GPU, and no CUDA graph could hold it.

    Args:
        shape: of a sample, [*batch, *event].
        event_dims: how many trailing dimensions are one event.

    Attributes:
        TENSORS: names of a subclass's tensors, [*batch, ...] each, or None where not computed.
    """

    arg_constraints: dict = {}
    TENSORS: tuple[str, ...] = ()

    def __init__(self, shape: Size, event_dims: int = 1) -> None:
        dims = len(shape) - event_dims
        super().__init__(shape[:dims], shape[dims:], validate_args=False)

    @property
    def deterministic_sample(self) -> Tensor:
        """What TorchRL plays or predicts when it does not draw: the mode."""
        return self.mode

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw with a gradient, where a subclass can; torch's `sample` calls this too."""
        raise NotImplementedError(f"{type(self).__name__} draws no such samples; predict its mean.")

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Self:
        """The same distribution with other batch dimensions, as torch's `expand`."""
        batch, dims = Size(batch_shape), len(self.batch_shape)
        expanded = self._with(lambda tensor: tensor.expand(batch + tensor.shape[dims:]))
        expanded._batch_shape = batch
        return expanded

    def detach(self) -> Self:
        """The same distribution, cut off from the graph; shares what was computed already."""
        return self._with(Tensor.detach)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed = copy.copy(self)
        for name in self.TENSORS:
            value = getattr(self, name)
            setattr(changed, name, None if value is None else change(value))
        return changed
