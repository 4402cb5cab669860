"""The memory estimate, with bytes counted by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import make_tiny

from mario_dreamer.config import build, memory
from mario_dreamer.config.compose import compose_default

# A record: image 3 * 16 * 16, three actions, reward 4, flags 3, stream 8, D = 16 twice, S = 3.
RECORD = 768 + 3 + 15 + 35


def test_a_stored_record_has_the_bytes_that_are_estimated() -> None:
    tiny = make_tiny().fill()
    storage = tiny.replay.buffer.storage
    held = sum(kind.itemsize * shape.numel() for shape, kind in storage.row_kinds().values())
    assert held == RECORD


def test_the_line_sums_replay_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny()
    tiny.cfg.replay.capacity, tiny.cfg.steps = 10**7, 10**8
    monkeypatch.setattr(memory, "_free_memory", lambda: 16 * memory.GIB)
    before = torch.get_rng_state()
    line = memory.check_memory(tiny.cfg, tiny.env)
    assert torch.equal(before, torch.get_rng_state())
    replay = 2 * RECORD * 10**7 / memory.GIB  # 15.29, with the copy of a save; the tiny networks 0.00
    assert f"about {replay:.2f} GiB" in line and "of 16.00 free" in line
    assert f"replay {replay:.2f}, networks and optimiser 0.00" in line
    with pytest.raises(ValueError, match=r"does not fit.*Lower replay.capacity \(now 10,000,000\)"):
        memory.check_memory(tiny.cfg, tiny.env, processes=2)


@pytest.mark.parametrize(
    ("group", "key", "value", "cure"),
    [("replay", "capacity", 10**10, "replay.capacity"), ("size", "deter", 10**6, "size")],
)
def test_an_absurd_size_is_refused_before_it_is_allocated(
    group: str, key: str, value: int, cure: str
) -> None:
    tiny = make_tiny()
    tiny.cfg.steps = 10**10
    tiny.cfg[group][key] = value
    with pytest.raises(ValueError, match="Lower .*" + cure):
        memory.check_memory(tiny.cfg, tiny.env)


def test_the_estimate_does_not_change_the_env_specs() -> None:
    cfg = compose_default(["experiment=pendulum", "device=cpu"])
    env = build.make_env(cfg, 1, 0)
    assert "networks" in memory.check_memory(cfg, env)
    assert {spec.device.type for spec in env.observation_spec.values()} <= {"cpu"}
    assert env.rand_step(env.reset())["action"].shape == (1, 1)


@pytest.mark.parametrize("storage", ["memmap", "compressed"])
def test_a_disk_that_has_no_room_for_the_replay_is_said_at_the_start(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make_tiny(f"replay={storage}", "replay.capacity=100000", "steps=1000000")
    row = RECORD if storage == "memmap" else RECORD - 768 + tiny.cfg.replay.slot_bytes
    row += RECORD  # a save copies it, not compressed
    for free, fits in ((100_000 * row, True), (100_000 * row - 1, False)):
        monkeypatch.setattr(memory.shutil, "disk_usage", lambda _, n=free: SimpleNamespace(free=n))
        if fits:
            memory.check_memory(tiny.cfg, tiny.env, folder=tmp_path / "replay")
            continue
        (tmp_path / "replay").mkdir()
        (tmp_path / "replay" / "another.bin").write_bytes(b"0" * 10_000)
        with pytest.raises(ValueError, match=r"its replay takes 0\.\d GiB in .*replay while it is saved, where 0\.\d are"):
            memory.check_memory(tiny.cfg, tiny.env, folder=tmp_path / "replay")
        (tmp_path / "replay" / "pixels.memmap").write_bytes(b"0" * 10_000)
        memory.check_memory(tiny.cfg, tiny.env, folder=tmp_path / "replay")
