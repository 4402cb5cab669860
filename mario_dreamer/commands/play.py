"""mario-dreamer play: film an episode.

    mario-dreamer play                                  the newest checkpoint plays, play.mp4
    mario-dreamer play checkpoint=runs/NAME out=a.gif   a run's newest checkpoint, as a GIF
    mario-dreamer play checkpoint=none                  an untrained agent
    mario-dreamer play env.stage=1-2 greedy=true        another stage, the likeliest actions

Options: checkpoint, episodes, greedy, out, scale, max_steps, seed, device, env.*; see
configs/play.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.envs.base import close_env
from mario_dreamer.tracking.video import film_encoder
from mario_dreamer.training.evaluation import play_episodes
from mario_dreamer.training.filming import NO_PICTURE, film


def sentence_of(info: Mapping[str, float], action_repeat: int, path: Path) -> str:
    """Return one sentence: how the episode ended, where, after how long, and which file shows it.

    Args:
        info: of a finished episode, see `Episode.stats`.
        action_repeat: frames per agent step; 60 frames are a second of play.
        path: the film.
    """
    cut = "" if info["terminated"] else " when the episode was cut off"
    if "flag" in info and "x_pos" in info:
        end = "reached the flag" if info["flag"] else "was still on the way" if cut else "died"
        stage = f" of {info['world']:g}-{info['stage']:g}" if {"world", "stage"} <= set(info) else ""
        what = f"Mario {end} at x = {info['x_pos']:g}{stage}{'' if info['flag'] else cut}"
    else:
        what = f"The episode {'was cut off' if cut else 'ended'} with a return of {info['return']:g}"
    seconds = info["length"] * action_repeat / 60
    steps = f"{info['length']:g} agent step{'' if info['length'] == 1 else 's'}"
    return f"{what} after {seconds:.1f} s of play ({steps}); the film is {path}."


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    out = Path(cfg.out)
    encode = film_encoder(out)
    agent = agent_of(cfg)
    env = agent.make_env(1, cfg.seed, **agent.truncating(cfg.max_steps))
    episodes = play_episodes(agent.policy, env, cfg.episodes, cfg.greedy, film)
    close_env(env)
    if episodes[0].frames.ndim != 4:
        raise ValueError(f"nothing to film: {NO_PICTURE}.")
    for number, episode in enumerate(episodes):
        file = out if len(episodes) == 1 else out.with_stem(f"{out.stem}-{number}")
        path = encode(episode.frames, file, 60 / agent.action_repeat, cfg.scale)
        print(sentence_of(episode.stats, agent.action_repeat, path))
