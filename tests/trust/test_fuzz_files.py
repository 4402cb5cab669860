"""Truncated, bit-flipped and made-up files: checkpoints, action lists, run files, messages."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import OURS, TYPED, check_answer, examples
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tiny import Tiny, make_tiny, restore, sign_files

from mario_dreamer.commands import replay, runs
from mario_dreamer.config import load_agent, stored
from mario_dreamer.tracking.files import FileTracker, read_metrics
from mario_dreamer.tracking.outbox import Outbox
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import find_run, read
from mario_dreamer.training.loop import Parts
from mario_dreamer.viewer.protocol import parse

FILES = ["agent.pt", "learning.pt", "replay.pt", "config.yaml", "manifest.json"]
LEAF = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=9)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)  # fmt: skip


@functools.cache
def whole() -> tuple[Tiny, Parts, Path]:
    """A tiny agent and a checkpoint of it."""
    tiny = make_tiny().fill()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-files-"))
    parts, _ = tiny.parts(folder / "run" / "checkpoints")
    tiny.learner.update(tiny.replay.sample())
    return tiny, parts, parts.snapshot.save(parts, 48)


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes | None]]:
    """Ways to damage the bytes of a file."""
    kind = draw(st.sampled_from(["cut", "flip", "empty", "junk", "longer", "gone", "zeros"]))
    where, byte = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7))
    junk = draw(st.binary(min_size=1, max_size=64))

    def flip(data: bytes) -> bytes:
        spot = int(where * len(data))
        return data[:spot] + bytes([data[spot] ^ (1 << byte)]) + data[spot + 1 :]

    def zeros(data: bytes) -> bytes:
        spot = int(where * len(data))
        return data[:spot] + bytes(min(512, len(data) - spot)) + data[spot + 512 :]

    ways: dict[str, Callable[[bytes], bytes | None]] = {
        "cut": lambda data: data[: int(where * len(data))], "flip": flip, "zeros": zeros,
        "empty": lambda data: b"", "junk": lambda data: junk, "longer": lambda data: data + junk,
        "gone": lambda data: None,
    }  # fmt: skip
    return kind, ways[kind]


def in_a_copy(change: Callable[[Path], None], use: Callable[[Path], Any]) -> Any:
    """Use a damaged copy of the checkpoint."""
    _, _, path = whole()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-copy-"))
    copy = folder / "run" / "checkpoints" / path.name
    try:
        shutil.copytree(path, copy)
        change(copy)
        return use(copy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def use_checkpoint(path: Path) -> None:
    """All that reads a checkpoint: a resume, and an agent that plays."""
    _, parts, _ = whole()
    stored.resumed_config(path, path.parents[1], ["steps=500"])
    steps = restore(parts, path)
    asked = OmegaConf.create({
        "checkpoint": str(path), "runs_dir": "nowhere", "trust_config": False, "device": "cpu",
        "precision": "fp32", "threads": 1, "seed": 0, "env": {},
    })  # fmt: skip
    load_agent.agent_of(asked).make_env().close()
    assert steps == 48, f"agent steps {steps} instead of 48"


def state_of(tiny: Tiny) -> list[str]:
    """A sum over everything that was restored."""
    learner, replay = tiny.learner.state_dict(), tiny.replay.state_dict()
    parts = [*learner["modules"].values(), *replay["records"].values()]
    return [hashlib.sha256(value.numpy().tobytes()).hexdigest() for value in parts]


@functools.cache
def state_of_the_whole() -> list[str]:
    tiny, parts, path = whole()
    restore(parts, path)
    return state_of(tiny)


@pytest.mark.fuzz
@given(name=st.sampled_from(FILES), damage=damages())
@examples(8)
def test_a_damaged_checkpoint_is_skipped_and_named(name: str, damage: Any) -> None:
    kind, spoil = damage

    def change(path: Path) -> None:
        data = spoil((path / name).read_bytes())
        (path / name).unlink() if data is None else (path / name).write_bytes(data)

    def use(path: Path) -> None:
        assert Checkpoints(path.parent).latest() in (None, path)
        same = (path / name).is_file() and (path / name).read_bytes() == (
            whole()[2] / name
        ).read_bytes()
        use_checkpoint(find_run(str(path), "nowhere"))
        assert state_of(whole()[0]) == state_of_the_whole(), "other weights, and nobody said so"
        # Blanks added to a manifest are no damage; anything else has to be noticed.
        assert same or name == "manifest.json", "damage went unnoticed"

    check_answer("damaged checkpoint", f"{name} {kind}", lambda: in_a_copy(change, use), False)


@pytest.mark.fuzz
@given(name=st.sampled_from(FILES[:4]), damage=damages())
@examples(4)
def test_damage_that_the_manifest_agrees_with_is_refused_too(name: str, damage: Any) -> None:
    kind, spoil = damage

    def change(path: Path) -> None:
        data = spoil((path / name).read_bytes())
        (path / name).unlink() if data is None else (path / name).write_bytes(data)
        sign_files(path)

    def use(path: Path) -> None:
        if name == "config.yaml":  # other words are another configuration, and may be a good one
            stored.stored_config(path)
        else:  # bytes that differ and still make numbers are another agent, and may be a good one
            use_checkpoint(path)

    check_answer("damaged and signed", f"{name} {kind}", lambda: in_a_copy(change, use), False,
          (*OURS, *TYPED), TYPED)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, value: Any, depth: int = 3) -> Any:
    """The same nested structure with one thing in it changed."""
    if isinstance(value, dict) and value and depth and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(list(value)))
        if draw(st.integers(0, 4)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: draw(changed(value[key], depth - 1))}
    if isinstance(value, torch.Tensor) and draw(st.booleans()):
        odd = [value.flatten()[:-1], value.unsqueeze(0), value.double().to(torch.complex64),
               torch.zeros(3), value.flatten()[:0]]  # fmt: skip
        return draw(st.sampled_from(odd))
    if isinstance(value, list) and value and draw(st.booleans()):
        return value[:-1]
    return draw(LEAF | st.just([]) | st.just({}) | st.just(torch.zeros(2)))


@pytest.mark.fuzz
@given(data=st.data(), stem=st.sampled_from(["agent", "learning", "replay"]))
@examples(5)
def test_a_checkpoint_of_another_make_is_refused(data: st.DataObject, stem: str) -> None:
    content = data.draw(changed(read(whole()[2], stem)))

    def change(path: Path) -> None:
        torch.save(content, path / f"{stem}.pt")
        sign_files(path)

    def use(path: Path) -> None:
        _, parts, good = whole()
        try:
            restore(parts, path)
        finally:
            restore(parts, good)

    check_answer("checkpoint of another make", stem, lambda: in_a_copy(change, use), False)


@pytest.mark.fuzz
@given(content=JSON.map(json.dumps) | st.text() | st.binary().map(lambda b: b.decode("latin-1")))
@examples(20)
def test_a_file_that_is_no_action_list_gets_one_message(content: str) -> None:
    path = Path(tempfile.mkdtemp()) / "actions.json"
    path.write_text(content)
    check_answer("action list", "made up", lambda: replay.read_actions(path), True)
    shutil.rmtree(path.parent)


GOOD_LIST = {
    "env": {"stage": "1-1", "action_set": "simple", "action_repeat": 4}, "actions": [0, 1, 2],
    "stats": {"x_max": 40, "flag": 0, "time": 400},
}  # fmt: skip


@pytest.mark.fuzz
@given(content=changed(GOOD_LIST))
@examples(20)
def test_an_action_list_with_one_thing_wrong_gets_one_message(content: Any) -> None:
    path = Path(tempfile.mkdtemp()) / "actions.json"
    path.write_text(json.dumps(content, default=lambda value: None))
    saved = check_answer("action list", "changed", lambda: replay.read_actions(path), False)
    shutil.rmtree(path.parent)
    if saved is not None:  # what is taken can be played
        env = saved["env"]
        assert isinstance(env["action_repeat"], int) and 1 <= env["action_repeat"] <= 1000
        assert all(float(value) == value for value in saved["stats"].values())


@pytest.mark.fuzz
@given(content=JSON.map(json.dumps) | st.text(max_size=200))
@examples(40)
def test_a_message_to_the_viewer_is_checked(content: str) -> None:
    check_answer("viewer message", "made up", lambda: parse(content), False)


COMMANDS = [
    {"type": "rate", "value": 15}, {"type": "keys", "held": ["A"]}, {"type": "dream", "on": True},
    {"type": "restart", "seed": 3, "stage": "1-1"}, {"type": "agent", "id": "main"},
    {"type": "horizon", "value": 5},
]  # fmt: skip


@pytest.mark.fuzz
@given(content=st.sampled_from(COMMANDS).flatmap(changed))
@examples(40)
def test_a_command_with_one_thing_wrong_is_checked(content: Any) -> None:
    text = json.dumps(content, default=lambda value: None)
    command = check_answer("viewer message", "changed", lambda: parse(text), False)
    assert command is None or isinstance(command["type"], str)


@pytest.mark.fuzz
@given(content=JSON.map(json.dumps) | st.text(), more=JSON.map(json.dumps) | st.text())
@examples(8)
def test_a_run_folder_with_other_peoples_files_is_still_a_folder(content: str, more: str) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "run.json").write_text(content)
    (folder / "metrics.jsonl").write_text(f"{content}\n{more}\n")
    (folder / "spool.jsonl").write_text(f"{more}\n{content}\n")
    try:
        check_answer("run files", "summary", lambda: runs.summary_of(folder), False)
        check_answer("run files", "metrics", lambda: read_metrics(folder), False)
        check_answer("run files", "tracker", lambda: track(folder), False)
        check_answer("run files", "spool", lambda: deliver(folder / "spool.jsonl"), False)
    finally:
        shutil.rmtree(folder)


def track(folder: Path) -> None:
    """A tracker in that folder still writes."""
    with FileTracker(folder) as tracker:
        tracker.log_metrics({"kl": 1.5}, 7)
    assert tracker.run_id
    assert json.loads((folder / "run.json").read_text())["status"] == "FINISHED"
    assert read_metrics(folder)["kl"] == [(7, 1.5)]


def deliver(spool: Path) -> None:
    """What lies in the spool and is no entry does not keep the others back."""
    seen: list[Any] = []
    outbox = Outbox(lambda entries: seen.extend(entry["kind"] for entry in entries), spool, "test",
                    every=0.01)  # fmt: skip
    outbox.put({"kind": "metrics", "values": {}})
    assert outbox.close(5) and seen[-1:] == ["metrics"], f"not delivered: {seen}"
