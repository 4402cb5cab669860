"""Every TensorDict key of the agent, spelled once: name, shape and symbol in the paper.

Shapes are written for one batch of sequences: B sequences of T records. TorchRL's own keys
(`is_init`, `("next", "reward")`, `terminated`, ...) live on the environment's side only and end
in `replay/records.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

# What the agent sees and does.
PIXELS = "pixels"  # x_t       [B, T, 3, H, W]  uint8 in replay, float in [0, 1] in the model
VECTOR = "vector"  # x_t       [B, T, V]        float, any range; symlog is applied by the model
ACTION = "action"  # a_t       [B, T, A]        one-hot or floats, chosen after seeing x_t
ACTION_MASK = "action_mask"  # [N, A]            bool, the one-hot actions that are legal now
PREV_ACTION = "prev_action"  # a_{t-1} [B, T, A]  one-hot or floats; zeros where is_first
STATS = "stats"  # nested: numbers that the env reports of the episode so far, [N, 1] each, logged
EXECUTED = "executed"  # [N, A]  the action really executed before x_t, where the env shows it

# What arrives with x_t.
REWARD = "reward"  # r_t       [B, T, 1]  float, the consequence of a_{t-1}
IS_FIRST = "is_first"  #       [B, T, 1]  bool, x_t opens an episode
IS_LAST = "is_last"  #         [B, T, 1]  bool, x_t closes an episode, for whatever reason
IS_TERMINAL = "is_terminal"  # [B, T, 1]  bool, x_t closes an episode by the rules of the env

# The latent state.
EMBED = "embed"  # e_t              [B, T, E]
DETER = "deter"  # h_t              [B, T, D]
STOCH = "stoch"  # z_t              [B, T, S, K] one-hot per category
FEAT = "feat"  # [h_t, z_t]         [B, T, D + S*K]
PREV_DETER = "prev_deter"  # h_{t-1} [B, T, D]
PREV_STOCH = "prev_stoch"  # z_{t-1} [B, T, S, K]; class indices [B, T, S] uint8 in replay
POST_LOGITS = "post_logits"  # q(z_t | h_t, e_t)  [B, T, S, K]
PRIOR_LOGITS = "prior_logits"  # p(z_t | h_t)     [B, T, S, K]

# What the heads predict.
RECON = "recon"  # nested: ("recon", PIXELS) is the decoder's mean for ("pixels")
CONT = "cont"  # c_t            [B, T, 1]  probability that the episode goes on
VALUE = "value"  # v_t          [B, T, 1]
SLOW_VALUE = "slow_value"  #    [B, T, 1]  the slow critic's v_t

# Of imagined rollouts: H steps from each start state.
WEIGHT = "weight"  # product of continues           [N, H + 1, 1]
LAMBDA_RETURN = "lambda_return"  # R^lambda_t       [N, H, 1]
ADVANTAGE = "advantage"  # (R^lambda_t - v_t) / S   [N, H, 1]

# Where a record lies in replay.
STREAM = "stream"  # index of the environment that made the record  [B, T] int64
INDEX = "index"  # row in storage                                    [B, T] int64
STEP_ID = "step_id"  # position in its stream, never reused         [B, T] int64


def is_image(key: object) -> bool:
    """Whether a key holds uint8 images: `pixels`, or `pixels_left` where there are several."""
    return isinstance(key, str) and (key == PIXELS or key.startswith(f"{PIXELS}_"))


def is_vector(key: object) -> bool:
    """Whether a key holds vectors of floats: `vector`, or `vector_joints` of several."""
    return isinstance(key, str) and (key == VECTOR or key.startswith(f"{VECTOR}_"))


def is_observation(key: object) -> bool:
    """Whether a key holds what the agent sees, x_t or a part of it."""
    return is_image(key) or is_vector(key)


def first_image(names: Iterable[object]) -> str | None:
    """Return the first key that holds images, the one that is filmed; None where there is none."""
    return next((str(name) for name in names if is_image(name)), None)
