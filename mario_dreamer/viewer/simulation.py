"""A live session of one agent: it plays a real world, or a person plays inside its dream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDictBase
from torch import Tensor

from mario_dreamer import keys
from mario_dreamer.viewer.controller import nearest_action
from mario_dreamer.viewer.environment import World
from mario_dreamer.viewer.inspector import DreamsInFlight, Mind, State, Thought, picture_error
from mario_dreamer.viewer.recordings import Recording

__all__ = ["Branch", "Frame", "Simulation"]


@dataclass
class Frame:
    """All that is shown of one moment.

    Args:
        facts: names to plain numbers, strings and lists.
        pictures: names to uint8 [H, W, C] tensors: real, seen, mind, dream, latent.
    """

    facts: dict[str, Any]
    pictures: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Branch:
    """The real moment at which a dream left the world, to come back to."""

    state: State
    seed: int
    actions: list[int]
    observation: TensorDictBase


class Simulation:
    """Let an agent play, moment by moment, and look into its head at each.

    Paper: arXiv:2301.04104, "World model learning", the figure of long-term predictions.

    Each simulation has a random stream of its own: with one seed it shows the same twice,
    whatever other simulations do in between.

    Args:
        mind: the agent's head.
        cfg: its configuration, with `env`.
        seed: of actions and worlds.
        stage: "w-s"; None: the configuration's.
        horizon: k, how long ago the dreams shown were begun, in steps.

    Attributes:
        mode: "watch" or "dream".
        greedy: the likeliest action instead of a draw.
        eyes_shut: the agent goes on from its own imagination; the real world goes on too.
        held: buttons a person holds inside a dream.
    """

    def __init__(
        self,
        mind: Mind,
        cfg: DictConfig,
        seed: int = 0,
        stage: str | None = None,
        horizon: int = 15,
    ) -> None:
        self.mind, self.cfg, self.horizon = mind, cfg, horizon
        self.mode, self.greedy, self.eyes_shut = "watch", False, False
        self.held: frozenset[str] = frozenset()
        self.world = World(cfg, seed, stage)
        self.restart(seed)

    def restart(self, seed: int, stage: str | None = None) -> None:
        """Begin the first episode anew at the next tick.

        Raises:
            ValueError: no such stage; the simulation then goes on as before.
        """
        if not self.world.chance or (stage is not None and stage != self.world.stage):
            world = World(self.cfg, seed, self.world.stage if stage is None else stage)
            self.world.close()
            self.world = world
        self.seed, self.episode, self.mode = seed, 0, "watch"
        self.shut_for = self.dreamed = 0
        self.branch: Branch | None = None
        self._state: State | None = None
        self._observation: TensorDictBase | None = None
        self._chance = torch.Generator().manual_seed(seed).get_state()
        self.set_horizon(self.horizon)

    def set_horizon(self, horizon: int) -> None:
        """Show dreams begun `horizon` steps ago, from now on."""
        self.horizon = horizon
        self._flight = DreamsInFlight(self.mind, horizon)
        if self._state is not None:
            self._flight.begin(self._state)

    def tick(self) -> Frame:
        """Go on by one agent step and show the new moment."""
        with self._own_chance():
            return self._dream() if self.mode == "dream" else self._watch()

    def _watch(self) -> Frame:
        dream, age = None, 0
        if self._state is None or self.world.over:
            self._begin()
        else:
            action = self._next
            self._before = (self._state, action)
            seen = self._observation = self.world.step(action)
            if self.eyes_shut:
                self._state = self.mind.imagine(self._state, action)
                self.shut_for += 1
            else:
                self._state = self.mind.see(seen, self._state, action)
                self.shut_for = 0
            dream, age = self._flight.advance(action, self._state)
        thought, picture = self.mind.think(self._state, dream)
        self._next = self.mind.choose(thought.action_probs, self.greedy)
        return self._show(thought, self._next, thought.picture if picture is None else picture, age)

    def _begin(self) -> None:
        """Open an episode. Its first frame is always seen: a dream has to start somewhere."""
        if self._state is not None:
            self.episode += 1
        self._observation = self.world.begin(self.seed + self.episode)
        self._state = self.mind.see(self._observation, None, None)
        self._flight.begin(self._state)
        self.shut_for = 0

    def enter_dream(self) -> Frame:
        """Leave the real world here: from now on a person's keys drive the world model.

        Returns:
            The moment of the branch, real and imagined.
        """
        if self._state is None or self.world.over:
            self.tick()
        assert self._state is not None and self._observation is not None
        if self.shut_for:  # one look first: a dream starts from a real frame
            with self._own_chance():
                self._state = self.mind.see(self._observation, *self._before)
        self.branch = Branch(
            self._state, self.world.seed, list(self.world.actions), self._observation
        )
        self.mode, self.dreamed, self.held = "dream", 0, frozenset()
        return self.look()

    def enter_recording(self, recording: Recording, position: int) -> Frame:
        """Leave for a dream from a moment of a recorded episode, which the agent watches first.

        Args:
            recording: the episode.
            position: agent steps into it; at most the last one before its end.

        Returns:
            The moment of the branch, real and imagined.

        Raises:
            ValueError: it does not fit this agent, or ends before; all goes on as before.
        """
        recording.check(self.cfg, self.world.names)
        actions = recording.actions[: min(position, len(recording.actions) - 1)]
        world = World(self.cfg, 0, recording.stage, chance=False)
        seen = [world.begin(0)]
        for action in actions:
            seen.append(world.step(action).clone())
            if world.over:
                world.close()
                raise ValueError(
                    f"{recording.path.name} ends after {len(world.actions)} steps; choose an "
                    "earlier moment."
                )
        with self._own_chance():
            kept = self.mind.world_model.observation_keys
            state = self.mind.watch(torch.cat([one.select(*kept) for one in seen]), actions)
        self.world.close()
        self.world, self._observation, self._state = world, seen[-1], state
        self.seed, self.episode, self.shut_for = 0, 0, 0
        self._flight.begin(state)
        return self.enter_dream()

    def dream_again(self) -> Frame:
        """Go back to where the dream began, in the dream and in the real world."""
        if self.branch is None:
            raise ValueError("there is no dream to begin again; enter one first.")
        branch = self.branch
        self._observation = self.world.replay(branch.seed, branch.actions)
        self._state, self.mode, self.dreamed = branch.state, "dream", 0
        return self.look()

    def leave_dream(self) -> Frame:
        """Hand the real world, as the person's actions left it, back to the agent.

        It does not yet know better than its dream; at the next tick it opens its eyes.
        """
        if self.mode == "dream":
            self.mode, self.shut_for = "watch", 0
            self._flight.begin(self._state)
        return self.look()

    def look(self) -> Frame:
        """Show the present moment again, without going on."""
        if self._state is None:
            return self.tick()
        with self._own_chance():
            thought, _ = self.mind.think(self._state)
            if self.mode == "dream":
                return self._show(thought, None, None, self.dreamed)
            self._next = self.mind.choose(thought.action_probs, self.greedy)
            return self._show(thought, self._next, thought.picture, 0)

    def _dream(self) -> Frame:
        action = nearest_action(self.held, self.world.names)
        self._state = self.mind.imagine(self._state, action)
        self.dreamed += 1
        if self.world.over:
            self.world.reward = math.nan  # nothing happens there any more
        else:  # what would really have happened, for the waking
            self._observation = self.world.step(action)
        thought, _ = self.mind.think(self._state)
        return self._show(thought, action, None, self.dreamed)

    def _show(self, thought: Thought, action: int | None, dream: Tensor | None, age: int) -> Frame:
        seen = self._observation[keys.PIXELS][0]
        pictures = {
            "real": self.world.screen(self._observation),
            "seen": seen.permute(1, 2, 0),
            "mind": thought.picture.permute(1, 2, 0),
            "latent": (thought.latent * 255).round().byte()[..., None],  # [S, K] -> [S, K, 1]
        }
        if dream is not None:
            pictures["dream"] = dream.permute(1, 2, 0)
        shut = self.mode == "dream" or self.shut_for > 0
        facts = {
            "mode": self.mode,
            "time": len(self.world.actions),
            "episode": self.episode,
            "action": action,
            "probs": thought.action_probs.tolist(),
            "predicted_reward": thought.reward,
            "reward": self.world.reward,
            "value": thought.value,
            "cont": thought.cont,
            "surprise": thought.surprise,
            "eyes": "shut" if shut else "open",
            "shut_for": self.dreamed if self.mode == "dream" else self.shut_for,
            "dream_age": age,
            "mind_error": picture_error(thought.picture, seen),
            "dream_error": None if dream is None else picture_error(dream, seen),
            "drawn": thought.drawn,
            "over": self.world.over,
            "terminated": self.world.terminated,
            "earned": self.world.earned,
            "world": self.world.facts(self._observation),
        }
        return Frame(facts, pictures)

    @contextmanager
    def _own_chance(self) -> Iterator[None]:
        """Draw from this simulation's own random stream; leave the process's as it was."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._chance)
        try:
            yield
        finally:
            self._chance = torch.get_rng_state()
            torch.set_rng_state(before)

    def close(self) -> None:
        """Stop the emulator."""
        self.world.close()
