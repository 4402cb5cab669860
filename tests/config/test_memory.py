"""Will it fit? Bytes counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import make_tiny
from torch import nn

from mario_dreamer.config import memory as launch_memory
from mario_dreamer.training.memory import (
    GIB,
    Need,
    network_bytes,
    record_bytes,
    refuse_what_does_not_fit,
    room_in_cgroup,
)


def test_a_record_is_its_frame_and_thirty_bytes_around_it() -> None:
    # 3 * 64 * 64 = 12288; action 7, reward 4, flags 3, stream 8; 2 * 512 + 32 of latents
    assert record_bytes({"pixels": (3, 64, 64)}, 7) == 12288 + 7 + 4 + 3 + 8
    assert record_bytes({"pixels": (3, 64, 64)}, 7, (512, 32)) == 12310 + 1024 + 32
    assert record_bytes({"vector": (4,)}, 2) == 16 + 2 + 15


def test_what_replay_really_holds_is_what_was_counted() -> None:
    tiny = make_tiny().fill()
    storage = tiny.replay.buffer.storage._storage
    held = sum(value[0].numel() * value.element_size() for value in storage.values())
    # image 3 * 16 * 16, three actions, D = 16, S = 3
    assert held == record_bytes({"pixels": (3, 16, 16)}, 3, (16, 3)) == 768 + 3 + 15 + 35


def test_networks_take_sixteen_bytes_a_weight_and_the_slow_critic_four_more() -> None:
    # Linear(4, 2) has 10 parameters: weight, gradient, two means
    assert network_bytes(nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)) == 30 * 16 + 10 * 4


def test_a_run_that_does_not_fit_is_refused_with_the_number_to_lower() -> None:
    needs = [
        Need("replay", 3 * GIB, "replay.capacity (now 250,000)"),
        Need("an update", 1 * GIB, "batch_size (now 16)"),
    ]
    line = refuse_what_does_not_fit(needs, 5 * GIB)
    assert line == "memory: about 4.00 GiB of 5.00 free (replay 3.00, an update 1.00)"
    with pytest.raises(ValueError, match=r"does not fit.*4\.00 GiB of 3\.50.*Lower replay.capac"):
        refuse_what_does_not_fit(needs, int(3.5 * GIB))
    needs[1] = Need("an update", 9 * GIB, "batch_size (now 16)", gpu=True)
    with pytest.raises(ValueError, match=r"GPU memory: about 9\.00 GiB of 8\.00.*Lower batch_size"):
        refuse_what_does_not_fit(needs, 5 * GIB, 8 * GIB)


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        ("replay.capacity=10_000_000_000", "replay.capacity"),
        ("batch_size=100_000_000", "batch_size"),
        ("size.deter=1_000_000", "size"),
    ],
)
def test_an_absurd_size_is_refused_before_anything_is_allocated(
    option: str, cure: str, tmp_path: Path
) -> None:
    tiny = make_tiny()
    cfg = tiny.cfg
    name, value = option.split("=")
    group, _, key = name.rpartition(".")
    (cfg[group] if group else cfg)[key] = int(value)
    cfg.steps = 10_000_000_000
    with pytest.raises(ValueError, match="Lower .*" + cure):
        launch_memory.check_memory(cfg, tiny.env, tmp_path)


def test_the_question_costs_no_memory_and_draws_no_random_number(tmp_path: Path) -> None:
    tiny = make_tiny()
    before = torch.get_rng_state()
    line = launch_memory.check_memory(tiny.cfg, tiny.env, tmp_path)
    assert line.startswith("memory: about") and "networks and optimiser" in line
    assert torch.equal(before, torch.get_rng_state())


def group(folder: Path, limit: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text(str(used))
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_the_tightest_control_group_counts_and_its_cache_is_room(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("0::/job/step\n")
    assert room_in_cgroup(tmp_path / "sys", own) is None
    group(tmp_path / "sys" / "job", "1000", 700, 50)
    group(tmp_path / "sys" / "job" / "step", "max", 600)
    assert room_in_cgroup(tmp_path / "sys", own) == 350
    group(tmp_path / "sys" / "job" / "step", "620", 600)
    assert room_in_cgroup(tmp_path / "sys", own) == 20
