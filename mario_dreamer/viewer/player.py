"""What one page sees: a simulation, its pace, and the commands that change them."""

from __future__ import annotations

from typing import Any

from mario_dreamer.viewer.agents import Agents
from mario_dreamer.viewer.environment import STAGES
from mario_dreamer.viewer.protocol import pack
from mario_dreamer.viewer.simulation import Simulation

__all__ = ["Player"]


class Player:
    """Serve one page: apply its commands, make its frames. Slow; runs in the compute thread.

    Args:
        agents: what can be looked at.
        seed: of the first simulation.

    Attributes:
        paused, hidden: no frames unless asked for by a command.
        rate: agent steps per second.
    """

    def __init__(self, agents: Agents, seed: int = 0) -> None:
        self.agents, self.seed = agents, seed
        self.paused = self.hidden = False
        self.agent = agents.first
        self.rate = min(self.agent.rate, 60.0)
        self.simulation = Simulation(self.agent.mind, self.agent.cfg, seed)

    @property
    def idle(self) -> bool:
        """Whether nothing has to be computed until the page says something."""
        return self.paused or self.hidden

    def hello(self) -> dict[str, Any]:
        """Describe the agent, its world and what can be chosen."""
        world, agent = self.simulation.world, self.agent
        return {
            "type": "hello",
            "agent": agent.id,
            "name": agent.name,
            "untrained": agent.checkpoint is None,
            "agents": self.agents.listed(),
            "actions": list(world.names),
            "stages": list(STAGES) if world.has_stages else [],
            "stage": world.stage,
            "seed": self.simulation.seed,
            "recordings": self.agents.recordings.listed(),
            "rate": self.rate,
            "real_rate": agent.rate,
            "horizon": self.simulation.horizon,
        }

    def tick(self) -> bytes:
        """Go on by one step; return the packed frame."""
        return pack(self.simulation.tick())

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
            simulation.greedy = command["on"]
        elif kind == "eyes":
            simulation.eyes_shut = command["shut"]
        elif kind == "horizon":
            simulation.set_horizon(command["value"])
        elif kind == "keys":
            simulation.held = command["held"]
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
        simulation = Simulation(agent.mind, agent.cfg, seed, stage, old.horizon)
        simulation.greedy, simulation.eyes_shut = old.greedy, old.eyes_shut
        old.close()
        self.agent, self.simulation = agent, simulation
        return [self.hello(), self.tick()]

    def close(self) -> None:
        """Stop the emulator."""
        self.simulation.close()
