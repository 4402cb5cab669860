"""mario-dreamer: the command, and its sub-commands.

    mario-dreamer train       learn to play; configs/train.yaml holds every option
    mario-dreamer evaluate    play episodes with a checkpoint, print how well they went
    mario-dreamer play        film an episode as mp4 or gif
    mario-dreamer dream       film what the world model predicts
    mario-dreamer view        look into the agent in a browser, play inside its dream
    mario-dreamer report      write a run into one HTML file: curves, deaths, calibration, dreams
    mario-dreamer export      hand the policy to others: a torch.export program, an MLflow model
    mario-dreamer replay      play a saved action list in the raw emulator and verify it
    mario-dreamer runs        list the runs of this machine
    mario-dreamer metrics     explain every metric that is logged

Each takes --help; those that have a file in configs/ take options as NAME=VALUE, and a path that
comes first is the checkpoint or run.
mario-dreamer --version prints the version.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from mario_dreamer.config.tracebacks import shows_tracebacks

COMMANDS = ("train", "evaluate", "play", "dream", "view", "report", "export", "replay", "runs",
            "metrics")  # fmt: skip
WITHOUT_FILE = ("replay", "runs", "metrics")  # no file in configs/: argparse reads their options


def main(arguments: list[str] | None = None) -> None:
    """Run the sub-command named first; without one, print which there are.

    Args:
        arguments: as typed after `mario-dreamer`; None takes the process's own.
    """
    typed = sys.argv[1:] if arguments is None else arguments
    for name in ("stdout", "stderr"):  # closed by whoever started this, as in `train >&-`
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show
    try:
        _run(typed)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads, as in `mario-dreamer --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, as in `mario-dreamer runs > /dev/full`
        if error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"error: {error.filename or 'cannot write the output'}: {error.strerror}", 1)
    except KeyboardInterrupt:
        _fail("stopped at once, as asked", 130)


def _run(typed: list[str]) -> None:
    if not typed or typed[0] in ("-h", "--help", "help"):
        print(__doc__)
        return
    if typed[0] == "--version":
        print(f"mario-dreamer {importlib.import_module('mario_dreamer').__version__}")
        return
    if importlib.util.find_spec("hydra") is None:
        _fail(f"error: mario_dreamer is not installed for {sys.executable}: pip install -e .", 1)
    command, words = typed[0], typed[1:]
    if command not in COMMANDS:
        near = importlib.import_module("difflib").get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}."
        _fail(f"error: there is no command {command!r}; {hint} See mario-dreamer --help.", 2)
    if any(word in ("-h", "--help") for word in words):
        print(_docstring(command))
        return
    try:
        os.getcwd()
    except OSError:
        _fail("error: the current folder is gone; change to another one and start again.", 1)
    if command == "replay" and not words:
        _fail("error: which action list? Type mario-dreamer replay FILE; evaluate writes them.", 1)
    if command in WITHOUT_FILE:
        sys.argv = [f"mario-dreamer {command}", *words]
        _module(command).main()
        return
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame films; SDL would print errors
    # First what costs a second, then torch.
    from mario_dreamer.config.command_line import answered, checked_words

    try:
        ready = checked_words(command, words)
    except ValueError as error:
        _fail(f"error: {error}", 1)
    if answered(command, ready):
        return
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if command in ("train", "view") and (alone or os.environ.get("RANK") == "0"):
        print(f"starting {command} ...", flush=True)  # of several processes, one prints
    main = _module(command).main
    _module("_command").run(command, main, ready)


def _module(command: str) -> ModuleType:
    """Import a command; what cannot be imported on this machine is one line."""
    try:
        return importlib.import_module(f"mario_dreamer.commands.{command}")
    except Exception as error:
        if shows_tracebacks():
            raise
        _fail(
            f"error: {command} cannot be loaded ({type(error).__name__}: {error}). Check the "
            "installation and the environment variables; MARIO_DREAMER_TRACEBACK=1 shows where.", 1,
        )  # fmt: skip


def _docstring(command: str) -> str:
    """A command's help, read from its file: importing it would import torch."""
    file = Path(__file__).parent / "commands" / f"{command}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _fail(line: str, code: int) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(code)
