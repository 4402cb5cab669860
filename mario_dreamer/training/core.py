"""The parts of a run that play and learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from mario_dreamer.agent.policy import Policy
from mario_dreamer.replay import Replay
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.schedule import LoopState, UpdateRatio


@dataclass
class Core:
    """The parts that play and learn; of several processes each has its own.

    Args:
        collector: yields transitions [N, n], played by `policy`.
        env: the environment that the collector steps, for its state.
        state: where the loop stands; a resume restores it.
    """

    collector: Iterable[TensorDictBase]
    env: EnvBase
    policy: Policy
    replay: Replay
    learner: Learner
    ratio: UpdateRatio
    state: LoopState = field(default_factory=LoopState, kw_only=True)
    processes: Processes = field(default_factory=Processes, kw_only=True)
