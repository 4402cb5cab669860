"""buffer: the memory as a whole, its write-back, its state."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from replay_checks import check_windows
from tensordict import TensorDict
from torchrl.data import TensorDictReplayBuffer

from mario_dreamer.replay import make_replay, to_records


def filled(counter, steps: int = 30, lengths: tuple[int, ...] = (3, 9), **options):
    """A replay of two streams, and the env that goes on where it stopped."""
    options = {"capacity": 80, "batch_size": 4, "batch_length": 5, "latents": True, **options}
    env, replay = counter(list(lengths)), make_replay(num_streams=len(lengths), **options)
    replay.extend(env.play(steps))
    return replay, env


def equal(one, two) -> bool:
    return set(one.keys()) == set(two.keys()) and all(
        torch.equal(value, two[key]) for key, value in one.items()
    )


def saved(state: dict) -> dict:
    """The state after a trip through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_inside_is_a_plain_torchrl_buffer(counter):
    replay, _ = filled(counter)
    assert type(replay.buffer) is TensorDictReplayBuffer
    assert len(replay.buffer) == len(replay) == 40 + 34
    check_windows(replay.buffer.sample(4), [3, 9])


def test_a_batch_has_the_keys_of_the_contract(counter):
    replay, _ = filled(counter)
    batch = replay.sample()
    assert batch.shape == (4, 5)
    expected = {
        "pixels": (torch.uint8, (3, 2, 2)),
        "vector": (torch.float32, (3,)),
        "prev_action": (torch.float32, (3,)),
        "reward": (torch.float32, (1,)),
        "is_first": (torch.bool, (1,)),
        "is_last": (torch.bool, (1,)),
        "is_terminal": (torch.bool, (1,)),
        "prev_deter": (torch.float16, (2,)),
        "prev_stoch": (torch.uint8, (2, 5)),
        "stream": (torch.int64, ()),
        "index": (torch.int64, ()),
        "step_id": (torch.int64, ()),
    }
    found = {key: (value.dtype, tuple(value.shape[2:])) for key, value in batch.items()}
    assert found == expected


def test_the_number_of_windows_can_be_asked_for(counter):
    replay, _ = filled(counter)
    assert replay.sample(7).shape == (7, 5)


def test_memmap_gives_the_same_batches_as_memory(counter, tmp_path):
    memory, _ = filled(counter, seed=3)
    memmap, _ = filled(counter, seed=3, storage="memmap", path=str(tmp_path / "replay"))
    assert any((tmp_path / "replay").iterdir())
    for _ in range(5):
        assert equal(memory.sample(), memmap.sample())


def test_ready_waits_for_as_many_records_as_a_batch_has(counter):
    replay, env = filled(counter, steps=1, lengths=(50,), capacity=60)
    assert len(replay) == 2 and not replay.ready()
    replay.extend(env.play(17))
    assert len(replay) == 19 and not replay.ready()
    replay.extend(env.play(1))
    assert replay.ready()
    small, _ = filled(counter, lengths=(50,), capacity=12)
    assert len(small) == 12 and small.ready()  # a batch is more than it can hold: full is enough


def test_transitions_of_another_number_of_envs_are_refused(counter):
    replay, _ = filled(counter)
    with pytest.raises(ValueError, match="num_streams=2"):
        replay.extend(counter([3]).play(4))


@pytest.mark.parametrize("wrong", [[1], torch.zeros(3), TensorDict({}, [2, 2, 3])])
def test_what_is_no_batch_of_transitions_is_refused_in_words(wrong):
    with pytest.raises(ValueError, match=r"transitions must be \[n\].* or \[N, n\]"):
        make_replay(capacity=64, num_streams=2, batch_length=4).extend(wrong)


def test_a_posterior_is_read_back_as_the_next_records_context(counter):
    replay, _ = filled(counter, online=False)
    batch = replay.sample()
    deter = 100.0 + torch.arange(4 * 5 * 2).reshape(4, 5, 2)
    stoch = torch.nn.functional.one_hot(torch.full((4, 5, 2), 4), 5).float()
    before = replay.buffer.storage.column("prev_deter").clone()
    replay.update_latents(batch["index"], deter, stoch, batch["step_id"])
    after = replay.buffer.storage.column("prev_deter")
    is_first = batch["is_first"][..., 0]
    written: dict[int, torch.Tensor] = {}
    for b in range(4):
        for t in range(4):
            if not is_first[b, t + 1]:
                written[int(batch["index"][b, t + 1])] = deter[b, t]
    assert written and is_first[:, 1:].any()
    for row in range(80):
        expected = written.get(row, before[row].float())
        # Rows never written hold whatever memory held, NaN too.
        torch.testing.assert_close(after[row].float(), expected, rtol=0, atol=0, equal_nan=True)
    again = replay.buffer.storage.get(batch["index"])
    assert again["prev_stoch"][:, 1:][~is_first[:, 1:]].eq(4).all()


def test_a_record_that_was_overwritten_keeps_its_own_context(counter):
    replay, env = filled(counter, capacity=40, lengths=(50, 60), online=False)
    batch = replay.sample(64)
    replay.extend(env.play(8))
    stored = {k: v.clone() for k, v in replay.buffer.storage._storage.items()}
    gone = replay.streams.position_at(batch["index"]) != batch["step_id"]
    assert gone.any() and not gone.all()
    deter, stoch = torch.full((64, 5, 2), -1.0), torch.ones(64, 5, 2, 5)
    replay.update_latents(batch["index"], deter, stoch, batch["step_id"])
    now = replay.buffer.storage.column("prev_deter")
    expected = stored["prev_deter"].clone()
    expected[batch["index"][:, 1:][~gone[:, 1:]]] = -1.0
    expected[stored["is_first"][:, 0]] = 0
    assert torch.equal(now[: len(replay)], expected[: len(replay)])


def test_of_two_posteriors_of_one_record_the_last_is_kept(counter):
    replay, _ = filled(counter, steps=9, lengths=(50,))
    index = torch.arange(5).expand(3, 5)
    deter = torch.arange(3.0)[:, None, None].expand(3, 5, 2)
    replay.update_latents(index, deter, torch.ones(3, 5, 2, 5), index)
    assert replay.buffer.storage.column("prev_deter")[:5, 0].tolist() == [0, 2, 2, 2, 2]
    spoiled = torch.full((3, 5, 2), 7.0)
    spoiled[:, 1, 1] = torch.nan  # what is no number is not kept
    replay.update_latents(index, spoiled, torch.ones(3, 5, 2, 5), index)
    assert replay.buffer.storage.column("prev_deter")[:5, 0].tolist() == [0, 7, 2, 7, 7]


def test_write_back_without_latents_is_an_error(counter):
    replay, _ = filled(counter, latents=False)
    batch = replay.sample()
    with pytest.raises(ValueError, match="latents"):
        replay.update_latents(
            batch["index"], torch.zeros(4, 5, 2), torch.zeros(4, 5, 2, 5), batch["step_id"]
        )


@pytest.mark.parametrize("steps", [6, 30, 75])
@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("storage", ["memory", "memmap"])
def test_a_resumed_memory_gives_the_same_batches(counter, steps, prefetch, storage):
    replay, env = filled(counter, steps=steps, prefetch=prefetch, storage=storage)
    replay.sample()
    state = saved(replay.state_dict())
    other = make_replay(80, 2, 4, 5, latents=True, seed=99, prefetch=prefetch, storage=storage)
    other.load_state_dict(state)
    assert len(other) == len(replay)
    for more in (3, 20):
        one, two = replay.sample(), other.sample()
        assert equal(one, two)
        for each in (replay, other):
            deter = one["prev_deter"].float() + 1
            each.update_latents(one["index"], deter, one["prev_stoch"], one["step_id"])
        assert equal(replay.sample(), other.sample())
        played = env.play(more)
        replay.extend(played)
        other.extend(played)
    assert equal(replay.sample(), other.sample())


def test_the_state_holds_the_filled_part_only(counter):
    replay, _ = filled(counter, steps=8, lengths=(50, 60), capacity=8000)
    state = replay.state_dict()
    assert state["records"]["pixels"].shape == (18, 3, 2, 2)
    assert state["records"]["pixels"].untyped_storage().nbytes() == 18 * 12


def test_the_state_does_not_follow_the_memory(counter):
    replay, env = filled(counter, capacity=20)
    before = replay.state_dict()
    kept = {key: value.clone() for key, value in before["records"].items()}
    replay.extend(env.play(10))
    assert all(torch.equal(before["records"][key], kept[key]) for key in kept)


@pytest.mark.parametrize(
    ("change", "word"), [({"capacity": 90}, "capacity"), ({"batch_length": 6}, "batch_length")]
)
def test_a_state_of_another_memory_is_refused(counter, change, word):
    replay, _ = filled(counter)
    other = make_replay(**{"capacity": 80, "num_streams": 2, "batch_length": 5, **change})
    with pytest.raises(ValueError, match=word):
        other.load_state_dict(replay.state_dict())


def test_an_empty_memory_can_be_saved_and_loaded(counter):
    replay, other = make_replay(800, 2), make_replay(800, 2)
    other.load_state_dict(saved(replay.state_dict()))
    assert len(other) == 0 and not other.ready()


def test_reading_ahead_is_the_same_in_two_runs(counter):
    runs = []
    for _ in range(2):
        replay, env = filled(counter, prefetch=True)
        batches = []
        for _ in range(10):
            batches.append(replay.sample())
            replay.extend(env.play(7))
        runs.append(batches)
    assert all(equal(one, two) for one, two in zip(*runs, strict=True))
    for batch in runs[0]:
        check_windows(batch, [3, 9])


def test_an_error_on_the_thread_reaches_the_caller():
    replay = make_replay(80, 2, batch_length=5, prefetch=True)
    with pytest.raises(ValueError, match="batch_length=5"):
        replay.sample()


def test_a_record_costs_its_pixels_and_five_percent_at_most():
    frame = torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8)
    flag = torch.zeros(1, 4, 1, dtype=torch.bool)
    after = {"pixels": frame, "reward": torch.zeros(1, 4, 1), "done": flag, "terminated": flag}
    action = torch.zeros(1, 4, 7, dtype=torch.int64)
    transitions = TensorDict(
        {"pixels": frame, "is_init": flag, "action": action, "next": after}, [1, 4]
    )
    record = to_records(transitions)[0]
    size = sum(value.numel() * value.element_size() for value in record.values())
    assert size <= 1.05 * 3 * 64 * 64


@pytest.mark.parametrize(
    "wrong", [{"storage": "disk"}, {"latent_dtype": "float8"}, {"capacity": 1, "num_streams": 2}]
)
def test_wrong_choices_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        make_replay(**{"capacity": 100, **wrong})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sampling_and_write_back_on_a_gpu_never_wait_for_it(counter):
    replay, env = filled(counter, device="cuda")
    replay.sample()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = replay.sample()
        deter, stoch = batch["prev_deter"].float(), batch["prev_stoch"]
        replay.update_latents(batch["index"], deter, stoch, batch["step_id"])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    replay.extend(env.play(20))
    check_windows(replay.sample().cpu(), [3, 9])
    other = make_replay(80, 2, 4, 5, latents=True, device="cuda")
    other.load_state_dict(saved(replay.state_dict()))
    assert equal(replay.sample(), other.sample())


@pytest.mark.parametrize("name", ["uniform", "online", "memmap", "compressed"])
def test_every_config_builds_a_memory(name):
    config = OmegaConf.load(Path(__file__).parents[2] / "configs" / "replay" / f"{name}.yaml")
    replay = instantiate(config, num_streams=2, batch_size=3, batch_length=4, seed=1)
    assert replay.streams.num_streams == 2
    assert (replay.batch_size, replay.batch_length) == (3, 4)
    assert replay.streams.capacity == config.capacity


@pytest.mark.parametrize("way", ["dumps", "state_dict"])
@pytest.mark.parametrize("storage", ["memory", "memmap"])
def test_the_torchrl_buffer_saves_and_loads_itself(counter, storage, way, tmp_path):
    replay, _ = filled(counter, storage=storage)
    fresh = make_replay(80, 2, batch_size=4, batch_length=5, latents=True, storage=storage)
    if way == "dumps":
        replay.buffer.dumps(tmp_path)
        fresh.buffer.loads(tmp_path)
    else:
        fresh.buffer.load_state_dict(replay.buffer.state_dict())
    assert len(fresh) == len(replay)
    assert equal(fresh.buffer.sample(4), replay.buffer.sample(4))
