"""mario-dreamer dream: film what the world model predicts.

    mario-dreamer dream                             observed, predicted, error: dream.mp4
    mario-dreamer dream out=dream.gif context=10    open loop after 10 agent steps

The policy plays real episodes; the world model sees the first `context` steps of a window (green
border), then predicts the rest along the same actions in open loop (red border). A picture of the
first window is written too, as .png.

Options: checkpoint, out, context, steps, rows, start, scale, seed, device, env.*; see
configs/dream.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy
from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.envs.base import close_env, env_call
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.replay import ToRecords, to_records
from mario_dreamer.tracking.open_loop_images import image_strip, open_loop_video
from mario_dreamer.tracking.video import film_encoder, save_png
from mario_dreamer.training.pictures import unbroken


def record_windows(
    policy: Policy, env: EnvBase, start: int, length: int, rows: int
) -> TensorDictBase:
    """Play, and cut windows of records out of the envs' streams: unbroken ones, of many envs, first.

    Each record holds the state before it: a window in mid-episode begins with the agent's state
    there, not as if the episode began.

    Args:
        policy: plays.
        env: [N] envs that carry its state.
        start: records before the first window.
        length: T.
        rows: number of windows.

    Returns:
        records [rows, T].

    Raises:
        EnvFailed: the env raised.
    """
    steps = start + 4 * length
    played = env_call(env.rollout, steps, policy, break_when_any_done=False)
    as_read = ToRecords(latents=True, classes=policy.world_model.rssm.stoch_shape[1])
    streams = [as_read(to_records(x, latents=True)).exclude(keys.STREAM) for x in played]
    cuts = range(start, min(map(len, streams)) - length + 1, max(1, length // 4))
    windows = [records[cut : cut + length] for cut in cuts for records in streams]
    return unbroken(torch.stack(windows), rows)


def why_no_pictures(env_options: Mapping[str, Any]) -> str:
    """Return what to do about an agent that observes no image.

    Args:
        env_options: of its env; some have a switch for pictures.
    """
    switches = [name for name in ("from_render", "pixels") if name in env_options][:1]
    return (
        "this agent reads numbers, so its world model draws no pictures. `mario-dreamer play` films "
        "it through the env's render()"
        + "".join(f"; env.{name}=true trains one on pictures" for name in switches) + "."
    )  # fmt: skip


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    out = Path(cfg.out)
    encode = film_encoder(out)
    agent = agent_of(cfg)
    image = keys.first_image(agent.world_model.observation_keys)
    if image is None:
        raise ValueError(why_no_pictures(agent.env_options))
    env = agent.make_env(cfg.rows, cfg.seed)
    with torch.no_grad():
        records = record_windows(agent.policy, env, cfg.start, cfg.steps, cfg.rows)
        records = records.to(agent.device)
        dream = agent.world_model.open_loop(records, cfg.context)
    truth = to_rgb(to_model_input(records[image]))
    prediction = to_rgb(dream[keys.RECON, image]).clamp(0, 1)
    fps = 60 / agent.action_repeat
    path = encode(open_loop_video(truth, prediction, cfg.context, cfg.scale), out, fps)
    every = max(1, cfg.steps // 12)
    strip = image_strip(truth[0], prediction[0], cfg.context, every=every, scale=cfg.scale)
    picture = save_png(strip, out.with_suffix(".png"))
    error = (prediction - truth)[:, cfg.context :].square().mean()
    print(f"{path}, {picture}: mean squared error in open loop {error:.4f}")
    close_env(env)
