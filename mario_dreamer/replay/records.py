"""TorchRL transitions to the paper's records. No other file shifts time.

TorchRL stores transitions: frame and action in the root, their outcome in `next`.
The paper counts frames: x_t arrives together with r_t and c_t, and a_{t-1} led to it.

    transition 0   root x_0 (is_init)  action a_0   next x_1, r_1
    transition 1   root x_1            action a_1   next x_2, r_2, terminated
                        |
    record 0   x_0   prev_action 0     is_first
    record 1   x_1   prev_action a_0   r_1
    record 2   x_2   prev_action a_1   r_2   is_last, is_terminal

An episode of N transitions has N + 1 frames, so it makes N + 1 records: both the opening
frame and the last one are kept, and both are learned from. A batch that begins in
mid-episode makes no second copy of a frame, so `extend` after `extend` gives one gapless
stream per environment, however the collector cuts it.

With latents, a transition's ("next", "deter") is h_t, made after seeing its root frame x_t,
so record t + 1 takes it as prev_deter: all that is needed to start the RSSM at that record.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from mario_dreamer import keys
from mario_dreamer.checks import check, show

ENDS = [("next", key) for key in ("terminated", "truncated", "done")]  # each but the first may lack


def to_records(
    transitions: TensorDictBase, latents: bool = False, latent_dtype: torch.dtype = torch.float16
) -> TensorDict:
    """Turn transitions of environments into records; stateless.

    Args:
        transitions: TorchRL transitions of one environment [n] or of N environments [N, n].
            Root: `is_init` bool [..., 1], `pixels` uint8 [..., 3, H, W] and/or `vector`
            [..., V], `action` one-hot or floats [..., A]. Next: the same observations, `reward`,
            `done` (or `terminated` and `truncated`), each [..., 1]. `stream` int64 [...] in the
            root, where these are not all of the environments.
        latents: keep ("next", "deter") [..., D] and ("next", "stoch") one-hot [..., S, K],
            which the policy wrote, as prev_deter and prev_stoch.
        latent_dtype: dtype of prev_deter.

    Returns:
        records [M], M = N * n + number of resets: `pixels` / `vector`, `prev_action` (uint8, or
        float32 where actions are floats), `reward` float32, `is_first`, `is_last`,
        `is_terminal` bool [M, 1], `stream` int64 [M] = which of the N environments; with
        latents `prev_deter` [M, D] and `prev_stoch` uint8 class indices [M, S], 0 where
        is_first. Within a stream the order of time is kept.

    Raises:
        ValueError: transitions are not [n] or [N, n].
        KeyError: a key is missing.
    """
    check_batch(transitions)
    _check_transitions(transitions, latents)
    num_streams, steps = (1, *transitions.shape)[-2:]
    flat = transitions.reshape(num_streams * steps)
    after = flat["next"]
    opens = flat["is_init"].flatten()  # [N, n, 1] -> [N * n]
    device = opens.device

    # A transition makes one record, of the frame it led to; one that opens an episode makes
    # two: its root frame goes before.
    row = torch.arange(len(flat), device=device).repeat_interleave(1 + opens.long())  # [M]
    is_first = torch.cat([row[:-1] == row[1:], opens.new_zeros(1)])  # the first of a pair

    def shifted(value: Tensor) -> Tensor:
        """Values of the step before, zeros at a reset."""
        value = value.index_select(0, row)
        value[is_first] = 0
        return value

    def observed(key: str) -> Tensor:
        frame = after[key].index_select(0, row)  # a tenth of after[key][row]'s time
        frame[is_first] = flat[key][opens]  # the root frame goes before
        return frame

    ends = [flat[key] for key in ENDS if key in flat.keys(True)]
    records = {key: observed(key) for key in flat.keys() if keys.is_observation(key)}
    action = flat[keys.ACTION]  # one-hot integers fit a byte
    records[keys.PREV_ACTION] = shifted(
        action.float() if action.is_floating_point() else action.to(torch.uint8)
    )
    records[keys.REWARD] = shifted(after[keys.REWARD].float())
    records[keys.IS_FIRST] = is_first[:, None]
    records[keys.IS_LAST] = shifted(torch.stack(ends).any(0))
    records[keys.IS_TERMINAL] = shifted(after["terminated"])
    stream = flat.get(keys.STREAM, None)
    records[keys.STREAM] = row // steps if stream is None else stream.index_select(0, row)
    if latents:
        records[keys.PREV_DETER] = shifted(after[keys.DETER].detach().to(latent_dtype))
        records[keys.PREV_STOCH] = shifted(to_classes(after[keys.STOCH]))
    return TensorDict(records, [len(row)], device=transitions.device)


def check_batch(transitions: TensorDictBase) -> None:
    """Raise ValueError unless `transitions` is a TensorDict [n] or [N, n]."""
    is_batch = isinstance(transitions, TensorDictBase)
    if not is_batch or transitions.ndim not in (1, 2) or 0 in transitions.shape:
        found = f"batch size {list(transitions.shape)}" if is_batch else show(transitions)
        raise ValueError(
            "to_records: transitions must be [n] (one environment) or [N, n]; got "
            f"{found}. Give it what torchrl.collectors.Collector yields."
        )


def _check_transitions(transitions: TensorDictBase, latents: bool) -> None:
    """Raise unless `transitions` has what `to_records` reads."""
    wanted: dict = {"is_init": "1: flag", keys.ACTION: "A: one-hot"}
    wanted |= {("next", keys.REWARD): "1: number", ("next", "terminated"): "1: flag"}
    seen = [key for key in transitions.keys() if keys.is_observation(key)]
    for number, key in enumerate(seen or [keys.PIXELS]):  # sizes of its own for each observation
        sizes = "C{0} Y{0} X{0}: number" if keys.is_image(key) else "V{0}: number"
        wanted |= dict.fromkeys((key, ("next", key)), sizes.format(number))
    if latents:
        wanted |= {("next", keys.DETER): "D: number", ("next", keys.STOCH): "S K: number"}
    present = set(transitions.keys(include_nested=True))
    missing = [key for key in wanted if key not in present]
    if missing:
        cure = {
            "is_init": "append torchrl.envs.InitTracker to the environment",
            ("next", keys.DETER): "act with the recurrent policy, or set latents=False",
            keys.PIXELS: "it reads images as pixels, vectors as vector; RenameTransform renames",
        }.get(missing[0], "check the environment's specs and the collector's settings")
        raise KeyError(
            f"to_records: transitions lack {missing}; got {sorted(map(str, present))}; {cure}."
        )
    wanted |= {key: "1: flag" for key in ENDS if key in present}
    batch = " ".join(map(str, transitions.shape))
    fields = {key: (transitions.get(key), f"{batch} {want}") for key, want in wanted.items()}
    check("to_records", None, {}, fields)
    for key in seen:
        if transitions[key].dtype != transitions["next", key].dtype:
            raise ValueError(
                f"to_records: {key} is {transitions[key].dtype} in the root and "
                f"{transitions['next', key].dtype} in next; it has to be of one type."
            )
    _check_finite(transitions)


def _check_finite(transitions: TensorDictBase) -> None:
    """Raise ValueError for a reward or vector that is not finite: it would spoil every batch."""
    vectors = [key for key in transitions.keys() if keys.is_vector(key)]
    for key in (("next", keys.REWARD), *vectors, *(("next", key) for key in vectors)):
        value = transitions[key]
        # On a GPU this would wait for the device; there the learner's check of the loss finds it.
        if value.device.type == "cpu" and not value.isfinite().all():
            bad = (~value.isfinite()).reshape(*transitions.shape, -1).any(-1)  # [n] or [N, n]
            stream = transitions.get(keys.STREAM, None)
            rows = bad.nonzero()[:, 0] if bad.ndim == 2 else torch.zeros(1, dtype=torch.int64)
            envs = (rows if stream is None else stream.reshape(bad.shape)[bad]).unique().tolist()
            raise ValueError(
                f"Replay.extend: {key} of environment {envs} is not a finite number; "
                "fix the environment, or the rule that makes its rewards."
            )


def to_classes(stoch: Tensor) -> Tensor:
    """One-hot [..., S, K] -> class indices uint8 [..., S]; ValueError if K > 256."""
    if stoch.shape[-1] > 256:
        raise ValueError(
            f"replay: stoch has {stoch.shape[-1]} classes, but a class is stored in one byte. "
            "Use at most 256 classes, or latents=False."
        )
    return stoch.detach().argmax(-1).to(torch.uint8)


class ToRecords(Transform):
    """Make any TorchRL replay buffer store the paper's records.

        TensorDictReplayBuffer(storage=LazyTensorStorage(1000), transform=ToRecords())

    `extend` takes transitions and stores records (`to_records`); `sample` gives them back
    with float actions and one-hot prev_stoch. `SliceSampler(slice_len=T, traj_key="stream",
    init_key=None)` draws windows that may cross the end of an episode, but keep to one environment
    and to what one `extend` wrote of it; those of `StreamSampler` may cross that border too.

    Args:
        latents: store prev_deter and prev_stoch too.
        latent_dtype: dtype of prev_deter. float16 is the default: |h| <= 1 in a GRU, where
            its rounding error is an eighth of bfloat16's at the same size.
        classes: K of prev_stoch's one-hot; None learns it from the first transitions.
    """

    def __init__(
        self,
        latents: bool = False,
        latent_dtype: torch.dtype = torch.float16,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.latents = latents
        self.latent_dtype = latent_dtype
        self.classes = classes

    def get_extra_state(self) -> int | None:
        """The number of classes, which the buffer's `state_dict` and `dumps` then keep."""
        return self.classes

    def set_extra_state(self, state: int | None) -> None:
        """Take over the number of classes."""
        self.classes = state

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Turn transitions [n] or [N, n] into records [M]; see `to_records`."""
        records = to_records(tensordict, self.latents, self.latent_dtype)
        if self.latents:
            classes = tensordict["next", keys.STOCH].shape[-1]
            if self.classes not in (None, classes):
                raise ValueError(
                    f"replay: stoch has had {self.classes} classes so far; got {classes}. One "
                    "replay holds the latents of one agent."
                )
            self.classes = classes
        return records

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Expand bytes to what the model reads: float32 prev_action, one-hot prev_stoch (uint8)."""
        tensordict[keys.PREV_ACTION] = tensordict[keys.PREV_ACTION].float()
        if self.latents:
            if self.classes is None:
                raise ValueError(
                    "ToRecords: the number of classes of prev_stoch is not known yet; extend with "
                    "transitions first, or pass classes=K."
                )
            index = tensordict[keys.PREV_STOCH][..., None]
            onehot = index == torch.arange(self.classes, device=index.device)  # [..., S, K]
            # Class 0 at an episode's start means no class at all: z there is zero.
            onehot &= ~tensordict[keys.IS_FIRST][..., None]
            tensordict[keys.PREV_STOCH] = onehot.to(torch.uint8)
        return tensordict
