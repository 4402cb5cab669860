"""Configurations out of the blue: they train, or one clear message says why not."""

from __future__ import annotations

import contextlib
import functools
import math
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fuzzing import OURS, TYPED, check_answer, examples
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tiny import SIZES

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read

SHORT = [
    "env=counting", "env.image_size=16", "env.length=6", "steps=24", "train_ratio=4",
    "batch_size=2", "batch_length=4", "log_every=8", "save_every=16", "eval_every=0",
    "minutes=0.02", "eval_episodes=1",
]  # fmt: skip
GROUPS = {
    "env": ["toy", "counting", "delayed", "memory", "cartpole", "atlantis"],
    "size": ["debug", "size1m", "size400m", "atlantis"],
    "encoder": ["cnn", "cnn_strided", "cnn_patch", "mlp"],
    "decoder": ["cnn", "cnn_strided", "cnn_patch", "mlp"],
    "rssm": ["rssm", "rssm_v1"],
    "rssm/sequence_model": ["gru", "block_gru"],
    "head@reward": ["twohot", "twohot_symlog", "mse", "bernoulli"],
    "head@cont": ["twohot", "mse", "bernoulli"],
    "head@critic": ["twohot", "twohot_symlog", "mse", "bernoulli"],
    "actor": ["onehot"],
    "loss": ["dreamerv3", "seed_v1"],
    "optimizer": ["laprop", "adam", "adam_agc"],
    "replay": ["online", "uniform", "memmap"],
    "tracker": ["none", "csv"],
    "collector": ["single", "many"],
}
# What nobody tries here: a run that lasts for ever is no broken input, and a disk is no toy.
LEFT_ALONE = ("runs_dir", "name", "resume", "minutes", "hydra", "experiment", "replay.path")


@functools.cache
def names() -> list[str]:
    """Dotted names of all options of the tiny configuration."""
    cfg = OmegaConf.to_container(compose.compose_default([*SIZES, *SHORT]))

    def walk(value: object, name: str) -> Iterator[str]:
        if name:
            yield name
        pairs = value.items() if isinstance(value, dict) else []
        for key, item in pairs:
            yield from walk(item, f"{name}.{key}" if name else key)

    return [name for name in walk(cfg, "") if not name.startswith(LEFT_ALONE)]


WORDS = st.sampled_from([
    "null", "true", "false", "nan", "inf", "-inf", "text", "''", "[]", "{}", "[1,2]", "{a:1}",
    "1e30", "1e-300", "-1", "0", "0.5", "-0.5", "1000000000000", "99999999999999999999999", "1", "2",
    "3", "7", "16", "64", "cuda", "cpu", "on", "off", "${seed}", "${nothing}", "${oc.env:HOME}",
    "???", "1;2", "`id`", "$(id)", "../..", "mario_dreamer._command.os.system", "rms", "layer",
])  # fmt: skip
VALUES = (
    WORDS
    | st.integers(-3, 40).map(str)
    | st.integers(-(2**70), 2**70).map(str)
    | st.floats().map(str)
    | st.text("abcXYZ0129.-_ ", max_size=8).map(lambda text: f"'{text}'")
)


@st.composite
def overrides(draw: st.DrawFn) -> list[str]:
    typed = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["value"] * 6 + ["group"] * 2 + ["unknown", "add", "raw"]))
        if kind == "value":
            typed.append(f"{draw(st.sampled_from(names()))}={draw(VALUES)}")
        elif kind == "group":
            group = draw(st.sampled_from(sorted(GROUPS)))
            typed.append(f"{group}={draw(st.sampled_from(GROUPS[group]))}")
        elif kind == "unknown":
            typed.append(f"{draw(st.sampled_from(names()))}x={draw(VALUES)}")
        elif kind == "add":
            typed.append(f"+{draw(st.sampled_from(names()))}_extra={draw(VALUES)}")
        else:
            typed.append(draw(st.text("abc=.@/{}[]$ ,'~+", min_size=1, max_size=12)))
    return typed


@contextlib.contextmanager
def little_memory(gib: float = 6) -> Iterator[None]:
    """Let this process have so much more address space, no more."""
    import psutil

    before = resource.getrlimit(resource.RLIMIT_AS)
    allowed = psutil.Process().memory_info().vms + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(typed: list[str], folder: Path) -> None:
    """Train from a command line, and look for silent nonsense in what is left."""
    try:
        cfg = compose.compose_default([*SIZES, *SHORT, *typed, f"runs_dir={folder}", "name=run"])
    except ValueError as error:  # Hydra's own; `mario-dreamer` prints one line of it
        raise HydraException(str(error)) from error
    result = train.run_training(cfg)
    shown = {name: value for name, value in result["metrics"].items() if not math.isfinite(value)}
    assert not shown, f"not finite: {shown}"
    saved = Checkpoints(folder / "run" / "checkpoints").latest()
    if saved is not None:
        weights = read(saved, "agent")
        bad = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
        assert not bad, f"not finite: {bad[:3]}"


@pytest.mark.fuzz
@given(typed=overrides())
@examples(5)
def test_any_configuration_trains_or_says_why_not(typed: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-config-"))
    threads = torch.get_num_threads()
    try:
        with little_memory():
            group = typed[0].split("=")[0] if len(typed) == 1 else "several"
            check_answer("configuration", f"{group}: {typed}", lambda: run(typed, folder), False,
                  (*OURS, *TYPED), TYPED, group)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
