"""One agent live: it plays an env, or a person plays inside its dream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Distribution

from mario_dreamer.agent.distribution_module import likeliest
from mario_dreamer.config.load_agent import LoadedAgent
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.viewer.environment import LiveEnv
from mario_dreamer.viewer.inspector import (
    AgentInspector,
    Belief,
    OpenLoopRollouts,
    Prediction,
    describe_policy,
    frame_error,
)
from mario_dreamer.viewer.protocol import Frame
from mario_dreamer.viewer.recordings import Recording


@dataclass
class Branch:
    """The real moment at which a dream began, to come back to."""

    belief: Belief
    seed: int
    actions: list[Tensor]


class Simulation:
    """Let an agent play, moment by moment, and read its state at each.

    Paper: arXiv:2301.04104, "World model learning", the figure of long-term predictions.

    Each simulation has a random stream of its own: with one seed it shows the same twice,
    whatever other simulations do in between.

    Args:
        stage: "w-s"; None: the first of the agent's.
        horizon: k, how long ago the predictions shown were begun, in steps.

    Attributes:
        mode: "watch" or "dream".
        is_greedy: the most likely action instead of a sample.
        is_open_loop: the agent goes on from its own imagination; the env goes on too.
        held: buttons that a person holds inside a dream.
    """

    def __init__(
        self,
        inspector: AgentInspector,
        agent: LoadedAgent,
        seed: int = 0,
        stage: str | None = None,
        horizon: int = 15,
    ) -> None:
        self.inspector, self.agent, self.horizon = inspector, agent, horizon
        self.mode, self.is_greedy, self.is_open_loop = "watch", False, False
        self.held: frozenset[str] = frozenset()
        self.env = LiveEnv(agent, stage)
        self.restart(seed)

    def restart(self, seed: int, stage: str | None = None) -> None:
        """Begin the first episode again at the next tick.

        Raises:
            ValueError: no such stage; the simulation then goes on as before.
        """
        stage = self.env.stage if stage is None else stage
        if not self.env.is_random or stage != self.env.stage:
            env = LiveEnv(self.agent, stage)
            self.env.close()
            self.env = env
        self.seed, self.episode, self.mode = seed, 0, "watch"
        self.open_loop_steps = self.dream_steps = 0
        self.branch: Branch | None = None
        self._belief: Belief | None = None
        self._observation: TensorDictBase | None = None
        self._random_state = torch.Generator().manual_seed(seed).get_state()

    def set_horizon(self, horizon: int) -> None:
        """Show predictions begun `horizon` steps ago, from now on."""
        self.horizon = horizon
        if self._belief is not None:
            self._begin_rollouts()

    def _begin_rollouts(self) -> None:
        self._rollouts = OpenLoopRollouts(self.inspector, self.horizon, self._belief)

    def tick(self) -> Frame:
        """Go on by one agent step and show the new moment."""
        with self._own_randomness():
            return self._dream() if self.mode == "dream" else self._watch()

    def _watch(self) -> Frame:
        foreseen, age = None, 0
        if self._belief is None or self.env.is_over:
            self._begin()
        else:
            action = self._next
            self._before = (self._belief, action)
            self._observation = self.env.step(action)
            if self.is_open_loop:
                self._belief = self.inspector.imagine(self._belief, action)
                self.open_loop_steps += 1
            else:
                self._belief = self.inspector.observe(self._observation, self._belief, action)
                self.open_loop_steps = 0
            foreseen, age = self._rollouts.advance(action, self._belief)
        prediction, frame = self.inspector.predict(self._belief, foreseen)
        self._next = self._choose(prediction.policy)
        return self._show(prediction, self._next, prediction.frame if frame is None else frame, age)

    def _begin(self) -> None:
        """Begin an episode. Its first frame is always observed: a rollout starts from one."""
        if self._belief is not None:
            self.episode += 1
        self._observation = self.env.begin(self.seed + self.episode)
        self._belief = self.inspector.observe(self._observation, None, None)
        self._begin_rollouts()
        self.open_loop_steps = 0

    def _choose(self, policy: Distribution) -> Tensor:
        """Sample a legal action, [A], or take the likeliest; of a broken agent, the first."""
        if (mask := self.env.legal(self._observation)) is not None:
            policy = policy.masked(mask.to(self.inspector.device))
        try:
            greedy = self.is_greedy and not self.inspector.policy.uniform
            action = likeliest(policy) if greedy else policy.sample()
        except RuntimeError:  # probabilities that are not numbers
            return self.env.action_set.one_hot(0)
        return action[0].float().cpu().nan_to_num(0.0)

    def enter_dream(self) -> Frame:
        """Leave the env here: from now on a person's keys drive the world model.

        Returns:
            The moment of the branch, real and imagined.
        """
        if self._belief is None or self.env.is_over:
            self.tick()
        assert self._belief is not None and self._observation is not None
        if self.open_loop_steps:  # one frame first: a dream starts from a real frame
            with self._own_randomness():
                self._belief = self.inspector.observe(self._observation, *self._before)
        self.branch = Branch(self._belief, self.env.seed, list(self.env.actions))
        self.mode, self.dream_steps, self.held = "dream", 0, frozenset()
        return self.look()

    def enter_recording(self, recording: Recording, position: int) -> Frame:
        """Leave for a dream from a moment of a recorded episode, which the agent watches first.

        Args:
            position: agent steps into it; at most the last one before its end.

        Returns:
            The moment of the branch, real and imagined.

        Raises:
            ValueError: it does not fit this agent, or ends before; all goes on as before.
        """
        recording.check(self.agent.env_options, self.env.action_set)
        env = LiveEnv(self.agent, recording.stage, is_random=False)
        with self._own_randomness():
            observation = env.begin(0)
            belief = self.inspector.observe(observation, None, None)
            for index in recording.actions[: min(position, len(recording.actions) - 1)]:
                action = env.action_set.one_hot(index)
                observation = env.step(action)
                belief = self.inspector.observe(observation, belief, action)
                if env.is_over:
                    env.close()
                    raise ValueError(
                        f"{recording.path.name} ends after {len(env.actions)} steps; choose an "
                        "earlier moment."
                    )
        self.env.close()
        self.env, self._observation, self._belief = env, observation, belief
        self.seed, self.episode, self.open_loop_steps = 0, 0, 0
        self._begin_rollouts()
        return self.enter_dream()

    def dream_again(self) -> Frame:
        """Go back to where the dream began, in the dream and in the env."""
        if self.branch is None:
            raise ValueError("there is no dream to begin again; enter one first.")
        branch = self.branch
        self._observation = self.env.replay(branch.seed, branch.actions)
        self._belief, self.mode, self.dream_steps = branch.belief, "dream", 0
        return self.look()

    def leave_dream(self) -> Frame:
        """Give the env, as the person's actions left it, back to the agent.

        Its state is still the imagined one; at the next tick it observes a frame again.
        """
        if self.mode == "dream":
            self.mode, self.open_loop_steps = "watch", 0
            self._begin_rollouts()
        return self.look()

    def look(self) -> Frame:
        """Show the present moment again, without going on."""
        if self._belief is None:
            return self.tick()
        with self._own_randomness():
            prediction, _ = self.inspector.predict(self._belief)
            if self.mode == "dream":
                return self._show(prediction, None, None, self.dream_steps)
            self._next = self._choose(prediction.policy)
            return self._show(prediction, self._next, prediction.frame, 0)

    def _dream(self) -> Frame:
        action = self.env.action_set.action_of(self.held)
        self._belief = self.inspector.imagine(self._belief, action)
        self.dream_steps += 1
        mask = self.env.legal(self._observation)
        if self.env.is_over or (mask is not None and bool((action > mask[0]).any())):
            self.env.reward = math.nan  # nothing happens there any more
        else:  # what would really have happened, to compare with
            self._observation = self.env.step(action)
        prediction, _ = self.inspector.predict(self._belief)
        return self._show(prediction, action, None, self.dream_steps)

    def _show(
        self, prediction: Prediction, action: Tensor | None, foreseen: Tensor | None, age: int
    ) -> Frame:
        """Show what the env and the agent are like now.

        Args:
            action: chosen next, [A]; None where the agent does not choose.
            foreseen: an image of this moment, predicted `age` steps before, uint8 [C, H, W].
        """
        env, in_dream = self.env, self.mode == "dream"
        seen = self._observation[self.inspector.image][0]
        pictures = {
            "screen": env.screen(self._observation),
            "observation": to_rgb(seen).permute(1, 2, 0),
            "decoded": to_rgb(prediction.frame).permute(1, 2, 0),
            "latent": (prediction.latent * 255).round().byte()[..., None],  # [S, K] -> [S, K, 1]
        }
        if foreseen is not None:
            pictures["foreseen"] = to_rgb(foreseen).permute(1, 2, 0)
        info = {
            "mode": self.mode,
            "episode": self.episode,
            "time": len(env.actions),
            "action": None if action is None else action.tolist(),
            **describe_policy(prediction.policy),
            **prediction.info,
            "reward": env.reward,
            "decoded_error": frame_error(prediction.frame, seen),
            "foreseen_error": None if foreseen is None else frame_error(foreseen, seen),
            "foreseen_age": age,
            "over": env.is_over,
            "terminated": env.is_terminated,
            "return": env.total_reward,
            "env": env.info(self._observation),
            "open_loop": in_dream or self.open_loop_steps > 0,
            "open_loop_steps": self.dream_steps if in_dream else self.open_loop_steps,
        }
        return Frame(info, pictures)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Draw from this simulation's own random stream; leave the process's as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random_state)
            yield
            self._random_state = torch.get_rng_state()

    def close(self) -> None:
        """Stop the emulator."""
        self.env.close()
