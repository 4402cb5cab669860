"""mario-dreamer view: look into the agent's head in a browser, and play inside its dream.

    mario-dreamer view                          the newest checkpoint, at http://127.0.0.1:8700
    mario-dreamer view runs/NAME                a run's newest checkpoint
    mario-dreamer view checkpoint=none          an untrained agent
    mario-dreamer view runs/A compare=runs/B    two agents side by side
    mario-dreamer view evaluation/greedy-best-0.json    dream from a recorded episode
    mario-dreamer view port=9000 host=0.0.0.0   let other machines look, such as a phone

Without a checkpoint the newest run's is shown, or the one that comes with the package. Prints the
address of the page; Ctrl-C stops. A port in use is replaced by a free one.

Options: checkpoint, compare, recording, port, host, max_pages, seed, device, env.*; see configs/view.yaml.
"""

from __future__ import annotations

from omegaconf import DictConfig

from mario_dreamer.commands import _command

__all__ = ["main"]

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


@_command.command("view", recording="recording")
def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    # Imported only now: `--help` and a bad option should not wait for the web server.
    from mario_dreamer.viewer.agents import Agents
    from mario_dreamer.viewer.server import make_app
    from mario_dreamer.viewer.serving import address_of, bind, run

    if cfg.max_pages < 1:
        raise ValueError(f"max_pages={cfg.max_pages}: expected at least 1.")
    agents = Agents(cfg)
    if agents.first.checkpoint is None:
        print("an untrained agent plays at random; give a checkpoint to see a trained one")
    listener = bind(str(cfg.host), int(cfg.port))
    address = address_of(listener, str(cfg.host))
    if listener.getsockname()[1] != cfg.port and cfg.port:
        print(f"port {cfg.port} is in use; took a free one")
    hosts = LOCAL | {str(cfg.host)}
    if str(cfg.host) not in LOCAL:
        print(f"host={cfg.host}: everybody who can reach this machine can open the page")
        hosts = None if str(cfg.host) in ("0.0.0.0", "::") else hosts
    print(f"{agents.first.name}\nopen {address}   Ctrl-C stops", flush=True)
    reason = run(make_app(agents, int(cfg.max_pages), hosts), listener)
    print(f"\nstopped: {reason}")


if __name__ == "__main__":
    main()
