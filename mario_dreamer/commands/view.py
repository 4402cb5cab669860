"""mario-dreamer view: watch the agent in a browser, and play inside its dream.

    mario-dreamer view                          the newest checkpoint, at http://127.0.0.1:8700
    mario-dreamer view runs/NAME                a run's newest checkpoint
    mario-dreamer view checkpoint=none          an untrained agent
    mario-dreamer view runs/A compare=runs/B    two agents side by side
    mario-dreamer view evaluation/greedy-best-0.json    dream from a recorded episode
    mario-dreamer view port=9000 host=0.0.0.0   let other devices watch, such as a phone

Without a checkpoint the newest run's is shown, or the one that comes with the package. Prints the
address of the page; Ctrl-C stops. A port in use is replaced by a free one.

Options: checkpoint, compare, recording, port, host, max_pages, seed, device, env.*; see configs/view.yaml.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.viewer.agents import Agents
from mario_dreamer.viewer.server import make_app
from mario_dreamer.viewer.serving import LOCAL, address_of, bind, host_check, run


def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    agents = Agents(
        lambda place: agent_of(OmegaConf.merge(cfg, {"checkpoint": place})),
        str(cfg.checkpoint),
        None if cfg.compare is None else str(cfg.compare),
        Path(cfg.runs_dir),
        None if cfg.recording is None else Path(str(cfg.recording)),
        int(cfg.seed),
    )
    if agents.first.loaded.checkpoint is None:
        print("an untrained agent plays at random; give a checkpoint to see a trained one")
    host = str(cfg.host)
    listener = bind(host, int(cfg.port))
    if listener.getsockname()[1] != cfg.port and cfg.port:
        print(f"port {cfg.port} is in use; took a free one")
    if host not in LOCAL:
        print(f"host={host}: everybody who can reach this machine can open the page")
    print(f"{agents.first.name}\nopen {address_of(listener, host)}   Ctrl-C stops", flush=True)
    reason = run(make_app(agents, int(cfg.max_pages), host_check(host)), listener)
    print(f"\nstopped: {reason}")
