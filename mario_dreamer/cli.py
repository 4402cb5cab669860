"""mario-dreamer: the command, and its sub-commands.

    mario-dreamer train       learn to play; configs/train.yaml holds every option
    mario-dreamer evaluate    play episodes with a checkpoint, print how well they went
    mario-dreamer play        film an episode as mp4 or gif
    mario-dreamer dream       film what the world model foresees
    mario-dreamer view        look into the agent's head in a browser, play inside its dream
    mario-dreamer report      write a run into one HTML file: curves, deaths, calibration, dreams
    mario-dreamer export      hand the policy to others: a torch.export program, an MLflow model
    mario-dreamer replay      play a saved action list in the raw emulator and verify it
    mario-dreamer runs        list the runs of this machine
    mario-dreamer metrics     explain every metric that is logged

Each takes `--help`, and options as NAME=VALUE; a path that comes first is the checkpoint or run.
"""

from __future__ import annotations

import importlib
import os
import sys

__all__ = ["COMMANDS", "main"]

COMMANDS = ("train", "evaluate", "play", "dream", "view", "report", "export", "replay", "runs",
            "metrics")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run the sub-command named first; without one, say which there are.

    Args:
        arguments: as typed after `mario-dreamer`; None takes the process's own.
    """
    typed = sys.argv[1:] if arguments is None else arguments
    if not typed or typed[0] in ("-h", "--help"):
        print(__doc__)
        return
    command, rest = typed[0], typed[1:]
    if command not in COMMANDS:
        print(
            f"error: there is no command {command!r}; expected one of {', '.join(COMMANDS)}. "
            "See mario-dreamer --help.",
            file=sys.stderr,
        )
        sys.exit(2)
    # Imported only now: `--help` should not wait for torch.
    module = importlib.import_module(f"mario_dreamer.commands.{command}")
    if any(word in ("-h", "--help") for word in rest):
        print(module.__doc__)
        return
    sys.argv = [f"mario-dreamer {command}", *rest]
    try:
        module.main()
    except (ValueError, KeyError, TypeError) as error:  # Hydra's own, for a choice such as env=null
        if os.environ.get("MARIO_DREAMER_TRACEBACK"):
            raise
        print(f"error: {error}. Look at what was typed: {' '.join(rest)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
