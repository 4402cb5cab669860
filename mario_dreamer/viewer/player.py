"""One page's simulation, its pace, and the commands that change them."""

from __future__ import annotations

from typing import Any

from mario_dreamer.viewer.agents import Agents
from mario_dreamer.viewer.environment import STAGES
from mario_dreamer.viewer.protocol import pack
from mario_dreamer.viewer.simulation import Simulation


class Player:
    """Serve one page: apply its commands, make its frames. Slow: runs in the compute thread.

    Attributes:
        paused, hidden: no frames unless asked for by a command.
        rate: agent steps per second.
    """

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        self.paused = self.hidden = False
        self.agent = agents.first
        self.rate = self.agent.rate
        self.simulation = Simulation(self.agent.inspector, self.agent.loaded, agents.seed)

    @property
    def idle(self) -> bool:
        """Whether nothing has to be computed until the page says something."""
        return self.paused or self.hidden

    def hello(self) -> dict[str, Any]:
        """Describe the agent, its env and what can be chosen."""
        env, agent = self.simulation.env, self.agent
        return {
            "type": "hello",
            "agent": agent.id,
            "name": agent.name,
            "untrained": agent.loaded.checkpoint is None,
            "agents": self.agents.listed(),
            "actions": list(env.action_set.names),
            "low": list(env.action_set.low),
            "high": list(env.action_set.high),
            "buttons": env.action_set.buttons,
            "stages": list(STAGES) if env.has_stages else [],
            "stage": env.stage,
            "seed": self.simulation.seed,
            "recordings": self.agents.recordings.listed(),
            "rate": self.rate,
            "horizon": self.simulation.horizon,
        }

    def tick(self) -> bytes:
        """Go on by one step; return the packed frame."""
        return pack(self.simulation.tick())

    def loads(self, command: dict[str, Any]) -> str | None:
        """Name what a command has to load first, when that takes a while."""
        if command["type"] == "agent" and command["id"] in self.agents.places:
            return self.agents.name(command["id"])
        if command["type"] == "recording":
            return "the recorded episode"
        stage, env = command.get("stage"), self.simulation.env
        if command["type"] == "restart" and env.has_stages and stage not in (None, env.stage):
            return f"stage {stage}"
        return None

    def apply(self, command: dict[str, Any]) -> list[dict[str, Any] | bytes]:
        """Do what a checked command says.

        Returns:
            Messages for the page: descriptions and packed frames.

        Raises:
            ValueError, CheckpointError: it cannot be done; everything goes on as before.
        """
        kind, simulation = command["type"], self.simulation
        if kind == "pause":
            self.paused = command["on"]
        elif kind == "hidden":
            self.hidden = command["on"]
        elif kind == "step":
            self.paused = True
            return [self.tick()]
        elif kind == "rate":
            self.rate = command["value"]
        elif kind == "greedy":
            simulation.is_greedy = command["on"]
        elif kind == "open_loop":
            simulation.is_open_loop = command["on"]
        elif kind == "horizon":
            simulation.set_horizon(command["value"])
        elif kind == "keys":
            simulation.held = frozenset(command["held"])
        elif kind == "restart":
            simulation.restart(command.get("seed", simulation.seed), command.get("stage"))
            return [self.hello(), self.tick()]
        elif kind == "agent":
            return self._change_agent(command)
        elif kind == "dream":
            frame = simulation.enter_dream() if command["on"] else simulation.leave_dream()
            return [pack(frame)]
        elif kind == "recording":
            recording = self.agents.recordings.load(command["id"])
            frame = simulation.enter_recording(recording, command["position"])
            return [self.hello(), pack(frame)]
        elif kind == "again":
            return [pack(simulation.dream_again())]
        return []

    def _change_agent(self, command: dict[str, Any]) -> list[dict[str, Any] | bytes]:
        agent, old = self.agents.load(command["id"]), self.simulation
        seed, stage = command.get("seed", old.seed), command.get("stage")
        if "stage" not in agent.loaded.env_options:
            stage = None
        simulation = Simulation(agent.inspector, agent.loaded, seed, stage, old.horizon)
        simulation.is_greedy, simulation.is_open_loop = old.is_greedy, old.is_open_loop
        old.close()
        self.agent, self.simulation = agent, simulation
        return [self.hello(), self.tick()]

    def close(self) -> None:
        """Stop the emulator."""
        self.simulation.close()
