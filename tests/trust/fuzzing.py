"""Give broken input to a public entry point and check the answer; count what was tried and what failed.

A border is good when every broken input gets one clear message of ours: raised by a line of
mario_dreamer, of a kind that callers may expect, with words in it. Not good: somebody else's
traceback, an AssertionError, silence (nonsense that is taken for input), or a hang.

    pytest tests/trust                                        a few inputs for each border
    MARIO_FUZZ=1000 MARIO_FUZZ_OUT=fuzz.csv pytest tests/trust -m fuzz     many, and their counts
    MARIO_FUZZ_COLLECT=1 ...                                  go on after a failure, list them all
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.errors import HydraException
from hypothesis import HealthCheck, settings
from omegaconf.errors import OmegaConfBaseException

from mario_dreamer.training.checkpoint_files import CheckpointError
from mario_dreamer.training.finite import NonFiniteLoss

MANY = int(os.environ.get("MARIO_FUZZ", "0"))
COLLECT = bool(os.environ.get("MARIO_FUZZ_COLLECT"))
OUT = os.environ.get("MARIO_FUZZ_OUT")
OURS = (ValueError, KeyError, TypeError, CheckpointError, NonFiniteLoss, ImportError, IndexError)
# Hydra and OmegaConf name the option and what was typed; the command line prints one line of it.
TYPED = (HydraException, OmegaConfBaseException)
PACKAGE = "/mario_dreamer/"
SECONDS = 60


class Hang(BaseException):
    """It took too long."""


class Failure(AssertionError):
    """A border let something through, or broke."""


@dataclass
class Tally:
    """What was tried at one border."""

    tried: int = 0
    refused: int = 0
    taken: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


TALLIES: dict[str, Tally] = {}


def examples(few: int) -> settings:
    """So many inputs in the default suite, MARIO_FUZZ of them in a long run."""
    return settings(
        max_examples=MANY or few,
        derandomize=not MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def no_hang(seconds: float = SECONDS) -> Iterator[None]:
    """Raise Hang when the block takes longer."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raised_by_us(error: BaseException) -> bool:
    """Whether the line that raised stands in mario_dreamer."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and PACKAGE in frames[-1].filename


def check_answer(
    border: str,
    what: str,
    call: Callable[[], Any],
    must_refuse: bool,
    expected: tuple[type[BaseException], ...] = OURS,
    anywhere: tuple[type[BaseException], ...] = (),
    group: str | None = None,
) -> Any:
    """Call a border with broken input; raise Failure, or count it, when the answer is not good.

    Args:
        border: whose counts these are.
        what: what was broken, for the list of failures.
        call: does it.
        must_refuse: a result would be silent nonsense.
        expected: kinds of errors that are answers.
        anywhere: kinds that may come from below us, because they name what is wrong.
        group: failures of one group are one; None: `what`.

    Returns:
        what the call returned, None where it refused.
    """
    tally = TALLIES.setdefault(border, Tally())
    tally.tried += 1
    kind, result = None, None
    try:
        with no_hang():
            result = call()
    except expected as error:
        text = str(error.args[0]) if error.args else ""
        if not isinstance(error, anywhere) and not raised_by_us(error):
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"raw {type(error).__name__} from {Path(frame.filename).name}:{frame.name}"
            what = f"{what}: {str(error)[:250]}"
        elif len(text) < 15:
            kind = f"{type(error).__name__} without words: {text!r}"
    except Hang:
        kind = "hang"
    except SystemExit:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"raw {type(error).__name__} from {Path(frame.filename).name}:{frame.name}"
        what = f"{what}: {str(error)[:250]}"
    else:
        tally.taken += 1
        if must_refuse:
            kind = "silent"
        if kind is None:
            return result
        result = None
    if kind is None:
        tally.refused += 1
        return None
    failure = f"{kind} ({group or what.split(':')[0]})"
    tally.failures[failure] += 1
    tally.examples.setdefault(failure, what)
    if not COLLECT:
        raise Failure(f"{border}: {failure}: {what}")
    return None


def write_counts(path: str | Path) -> None:
    """Write one row for each border, and one line for each distinct failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        rows = csv.writer(file)
        if not path.stat().st_size:
            rows.writerow(["border", "tried", "refused", "taken", "distinct_failures"])
        for border, tally in sorted(TALLIES.items()):
            counts = [tally.tried, tally.refused, tally.taken, len(tally.failures)]
            rows.writerow([border, *counts])
    with path.with_suffix(".failures.txt").open("a") as file:
        for border, tally in sorted(TALLIES.items()):
            for failure, count in tally.failures.most_common():
                print(f"{border}: {failure} x{count}: {tally.examples[failure]}", file=file)


if OUT:
    atexit.register(write_counts, OUT)
