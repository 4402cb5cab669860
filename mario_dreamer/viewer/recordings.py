"""Recorded episodes: action lists that `mario-dreamer evaluate` saved; a dream can start there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mario_dreamer.config.stored import new_target
from mario_dreamer.envs.mario.emulator import actions_of
from mario_dreamer.envs.mario.recordings import played_stage
from mario_dreamer.training.checkpoint_files import read_small_text
from mario_dreamer.viewer.controller import ActionSet

LARGEST = 4 * 2**20  # bytes of an action list; ours are far below
MOST = 60  # offered on a page


@dataclass
class Recording:
    """An episode that can be played again.

    Args:
        env: options of the env it was played in.
        actions: index of each action, in order.
        is_random: its env began at random, so the actions alone do not lead there.
        stage: the one it was played on, where its env has stages.
    """

    path: Path
    env: dict[str, Any]
    actions: list[int]
    is_random: bool = False
    stage: str | None = None

    def check(self, options: Mapping[str, Any], action_set: ActionSet) -> None:
        """Refuse an episode that an agent could not have played.

        Raises:
            ValueError: another env, other actions, or randomness in it.
        """
        if self.is_random or any(self.env.get(name) for name in ("random_noops", "sticky")):
            raise ValueError(
                f"{self.path.name} was played with random starts or sticky actions: its actions "
                "alone do not lead there again. Choose an episode of the plain start."
            )
        for name in ("_target_", "action_repeat"):
            theirs, ours = new_target(self.env.get(name)), options.get(name)
            if theirs != ours:
                raise ValueError(f"{self.path.name} has env.{name}={theirs}, this agent {ours}.")
        names = self.env.get("action_set")
        if names is not None and actions_of(names) != action_set.names:
            raise ValueError(f"{self.path.name} has other actions than this agent: {names}.")
        if action_set.is_continuous or max(self.actions) >= len(action_set.names):
            raise ValueError(f"{self.path.name} has more actions than this agent.")


def read_recording(path: Path) -> Recording:
    """Read an action list as `mario-dreamer evaluate` writes it.

    Raises:
        ValueError: when it is not such a file.
    """
    expected = "Expected an action list written by mario-dreamer evaluate."
    try:
        saved = json.loads(read_small_text(path, LARGEST))
        env, actions = saved["env"], saved["actions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}. {expected}") from error
    whole = isinstance(actions, list) and actions and all(
        isinstance(action, int) and not isinstance(action, bool) and action >= 0
        for action in actions
    )  # fmt: skip
    if not isinstance(env, dict) or not whole:
        raise ValueError(f"{path} holds no env with a list of action indices. {expected}")
    stage = env.get("stage")
    if stage is not None:
        try:  # an env of several stages: the last frame says which one it was
            stage = played_stage(stage, saved.get("stats") or saved.get("facts") or {})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not say which stage it was played on. {expected}") from error
    return Recording(path, env, actions, saved.get("random_start") is True, stage)


class Recordings:
    """The recorded episodes on offer. A page can only choose from them, never a path of its own.

    Args:
        asked: a file or a folder given on the command line; None: none.
        folders: looked through for more; those that are not there are passed over.

    Raises:
        ValueError: `asked` is not there, or is no recorded episode.
    """

    def __init__(self, asked: Path | None, folders: Sequence[Path] = ()) -> None:
        self.found: dict[str, Recording] = {}
        if asked is not None and asked.is_dir():
            folders = [asked, *folders]
        elif asked is not None:
            self._add(read_recording(asked))
        for path in [file for folder in folders for file in sorted(folder.glob("*.json"))]:
            try:
                self._add(read_recording(path))
            except ValueError:
                continue  # a results.json lies in the same folder
        if asked is not None and not self.found:
            raise ValueError(f"no recorded episode lies in {asked}; mario-dreamer evaluate saves.")

    def _add(self, recording: Recording) -> None:
        taken = {other.path.resolve() for other in self.found.values()}
        if recording.path.resolve() not in taken and len(self.found) < MOST:
            self.found[f"{len(self.found)}"] = recording

    def listed(self) -> list[dict[str, Any]]:
        """Return id, name and number of steps of each."""
        return [
            {"id": id, "name": f"{made.path.stem} ({made.path.parent.name})",
             "length": len(made.actions)}
            for id, made in self.found.items()
        ]  # fmt: skip

    def load(self, id: str) -> Recording:
        """Return one of the list.

        Raises:
            ValueError: no such recording.
        """
        if id not in self.found:
            raise ValueError(f"there is no recorded episode {id!r}.")
        return self.found[id]
