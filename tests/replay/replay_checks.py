"""An env where every frame knows its place, and what must be true of every window of it."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from torch.nn.functional import one_hot

ACTIONS, CLASSES = 3, 5


class Counter:
    """N environments whose frames say (environment, position in its stream, t of the episode).

    Reward is 10 t; the action after frame p is p % 3. The latents after frame p: deter is
    (p, p), stoch is class p % 5 twice. Episodes of environment s take lengths[s] transitions.
    """

    def __init__(self, lengths: list[int], ending: str = "terminated") -> None:
        self.lengths, self.ending = lengths, ending
        self.position = [0] * len(lengths)
        self.time = [0] * len(lengths)

    def play(self, steps: int) -> TensorDict:
        """Transitions [N, steps], each batch going on where the last one stopped."""
        streams = [[self._step(s) for _ in range(steps)] for s in range(len(self.lengths))]
        return torch.stack([torch.stack(stream) for stream in streams]).contiguous()

    def _frame(self, s: int) -> dict[str, torch.Tensor]:
        p, t = self.position[s], self.time[s]
        return {
            "pixels": torch.full((3, 2, 2), t % 256, dtype=torch.uint8),
            "vector": torch.tensor([float(s), float(p), float(t)]),
        }

    def _step(self, s: int) -> TensorDict:
        root, p = self._frame(s), self.position[s]
        is_init = self.time[s] == 0
        self.position[s], self.time[s] = p + 1, self.time[s] + 1
        after = self._frame(s)
        reward, done = 10.0 * self.time[s], self.time[s] == self.lengths[s]
        if done:
            self.position[s], self.time[s] = p + 2, 0
        latents = {
            "deter": torch.full((2,), float(p)),
            "stoch": one_hot(torch.full((2,), p % CLASSES), CLASSES).float(),
        }
        ends = {
            "done": torch.tensor([done]),
            "terminated": torch.tensor([done and self.ending == "terminated"]),
            "truncated": torch.tensor([done and self.ending == "truncated"]),
        }
        action = one_hot(torch.tensor(p % ACTIONS), ACTIONS)
        after = {**after, **latents, **ends, "reward": torch.tensor([reward])}
        return TensorDict(
            {**root, "is_init": torch.tensor([is_init]), "action": action, "next": after}, []
        )


def check_windows(batch: TensorDictBase, lengths: list[int]) -> int:
    """Assert that windows [B, T] of a Counter's frames are gapless and right; return B."""
    stream, position, time = batch["vector"].unbind(-1)
    stream, position, time = stream.long(), position.long(), time.long()
    size, length = batch.shape
    assert torch.equal(stream, stream[:, :1].expand(size, length)), "a window mixes streams"
    assert torch.equal(stream, batch["stream"])
    assert torch.equal(position, position[:, :1] + torch.arange(length)), "a window has a gap"
    assert torch.equal(position, batch["step_id"])
    frames = torch.tensor(lengths)[stream] + 1
    assert torch.equal(time, position % frames)
    assert torch.equal(batch["pixels"][:, :, 0, 0, 0].long(), time)
    assert torch.equal(batch["reward"][..., 0], 10.0 * time)
    has_latents = "prev_deter" in batch
    is_first = time == 0
    if not has_latents:
        is_first[:, 0] = True
    assert torch.equal(batch["is_first"][..., 0], is_first)
    assert torch.equal(batch["is_terminal"][..., 0], time == frames - 1)
    assert torch.equal(batch["is_last"][..., 0], time == frames - 1)
    action = one_hot((position - 1) % ACTIONS, ACTIONS).float()
    action[is_first] = 0
    assert torch.equal(batch["prev_action"], action)
    if has_latents:
        assert torch.equal(batch["prev_deter"][..., 0].long(), (position - 1) * ~is_first)
        assert torch.equal(batch["prev_stoch"][..., 0, :].sum(-1), (~is_first).to(torch.uint8))
    return size
