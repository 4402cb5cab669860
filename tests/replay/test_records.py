"""records: transitions become the paper's records, and time is shifted exactly once."""

from __future__ import annotations

import re

import pytest
import torch
from torchrl.collectors import Collector
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    SliceSampler,
    TensorDictReplayBuffer,
)

from mario_dreamer.envs.toy.counting import make_counting_env
from mario_dreamer.replay import ToRecords, to_records


def test_an_episode_of_n_steps_makes_n_plus_one_records(counter):
    records = to_records(counter([3]).play(3)[0])
    assert records.shape == (4,)
    assert records["pixels"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert records["reward"].flatten().tolist() == [0, 10, 20, 30]
    assert records["is_first"].flatten().tolist() == [True, False, False, False]
    assert records["is_last"].flatten().tolist() == [False, False, False, True]
    assert records["is_terminal"].flatten().tolist() == [False, False, False, True]
    assert records["prev_action"].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_an_episode_of_one_step_makes_two_records(counter):
    records = to_records(counter([1]).play(3)[0])
    assert records["vector"][:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert records["is_first"].flatten().tolist() == [True, False] * 3
    assert records["is_last"].flatten().tolist() == [False, True] * 3


def test_a_time_limit_is_last_but_not_terminal(counter):
    records = to_records(counter([2], ending="truncated").play(2)[0])
    assert records["is_last"].flatten().tolist() == [False, False, True]
    assert not records["is_terminal"].any()


def test_frames_stay_bytes_and_rewards_are_floats(counter):
    records = to_records(counter([3]).play(3)[0])
    assert records["pixels"].dtype == torch.uint8
    assert records["prev_action"].dtype == torch.uint8
    assert records["reward"].dtype == torch.float32
    assert records["stream"].dtype == torch.int64


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 7])
def test_split_batches_make_the_same_records_as_one_batch(counter, cut):
    whole = to_records(counter([3]).play(11)[0], latents=True)
    parts = counter([3])
    split = [to_records(parts.play(n)[0], latents=True) for n in (cut, 11 - cut)]
    split = torch.cat(split)
    assert set(whole.keys()) == set(split.keys())
    for key, value in whole.items():
        assert torch.equal(value, split[key]), key


def test_several_environments_keep_their_order_and_their_names(counter):
    records = to_records(counter([2, 5]).play(4))
    for s, frames in ((0, 6), (1, 5)):  # two resets and one
        mine = records[records["stream"] == s]
        assert mine["vector"][:, 0].eq(s).all()
        assert mine["vector"][:, 1].tolist() == list(range(frames))


def test_a_records_state_is_that_after_the_record_before(counter):
    records = to_records(counter([3]).play(6)[0], latents=True)
    position, first = records["vector"][:, 1], records["is_first"].flatten()
    assert records["prev_deter"].dtype == torch.float16
    assert records["prev_stoch"].dtype == torch.uint8
    assert torch.equal(records["prev_deter"][~first, 0].float(), position[~first] - 1)
    assert torch.equal(records["prev_stoch"][~first, 1].float(), (position[~first] - 1) % 5)
    assert not records["prev_deter"][first].any() and not records["prev_stoch"][first].any()


def test_float_actions_stay_floats(counter):
    transitions = counter([3]).play(3)
    transitions["action"] = torch.rand(1, 3, 2) - 0.5
    assert to_records(transitions)["prev_action"].dtype == torch.float32


def test_the_input_is_not_changed(counter):
    transitions = counter([2, 3]).play(5)
    before = transitions.clone()
    to_records(transitions, latents=True)["pixels"].zero_()
    assert (transitions == before).all()


@pytest.mark.parametrize(
    ("key", "cure"), [("is_init", "InitTracker"), (("next", "deter"), "latents=False")]
)
def test_a_missing_key_names_the_cure(counter, key, cure):
    with pytest.raises(KeyError, match=cure):
        to_records(counter([3]).play(3).exclude(key), latents=True)


def test_a_vector_of_another_name_is_told_what_to_do(counter):
    played = counter([3]).play(3)
    for td in (played, played["next"]):
        td.rename_key_("vector", "observation")
    with pytest.raises(KeyError, match="vectors as vector; RenameTransform"):
        to_records(played.exclude("pixels", ("next", "pixels")))


def test_a_reward_that_is_no_number_names_its_environment(counter):
    played = counter([3, 3, 3]).play(4)
    played["next", "reward"][1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"reward.* of environment \[1\] is not a finite number"):
        to_records(played)
    with pytest.raises(ValueError, match=r"of environment \[0\]"):
        to_records(played[1])
    with pytest.raises(ValueError, match=r"of environment \[7\]"):
        to_records(played[1:2].set("stream", torch.full((1, 4), 7)))


def test_other_batches_than_one_or_two_dimensions_are_refused(counter):
    played = counter([3]).play(3)
    for wrong, found in ((played[None], [1, 1, 3]), (played[0, 0], []), (played[:, :0], [1, 0])):
        with pytest.raises(ValueError, match=re.escape(f"[N, n]; got batch size {found}")):
            to_records(wrong)


@pytest.mark.parametrize("storage", [LazyTensorStorage, LazyMemmapStorage])
def test_one_line_makes_a_plain_torchrl_buffer_store_records(counter, storage):
    buffer = TensorDictReplayBuffer(
        storage=storage(100), transform=ToRecords(latents=True), batch_size=32
    )
    buffer.extend(counter([3]).play(6)[0])
    assert len(buffer) == 8
    sample = buffer.sample()
    first = sample["is_first"].flatten()
    assert torch.equal(sample["reward"].flatten(), 10.0 * sample["vector"][:, 2])
    assert sample["prev_stoch"].shape == (32, 2, 5)
    assert sample["prev_stoch"].sum(-1)[~first].eq(1).all()
    assert not sample["prev_stoch"][first].any() and not sample["prev_action"][first].any()
    assert sample["prev_action"].dtype == torch.float32


@pytest.mark.parametrize("capacity", [1000, 70])
def test_torchrls_slices_of_records_keep_to_one_env_and_its_time(capacity):
    env = make_counting_env(num_envs=2, length=[3, 5], num_actions=4, seed=0)
    sampler = SliceSampler(slice_len=6, traj_key="stream", init_key=None, cache_values=False)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(capacity), batch_size=40 * 6, sampler=sampler,
        transform=ToRecords(),
    )  # fmt: skip
    for transitions in Collector(env, None, frames_per_batch=32, total_frames=160):
        buffer.extend(transitions)
        windows = buffer.sample().reshape(-1, 6)
        time, first = windows["pixels"][:, :, 0, 1, 1].long(), windows["is_first"][:, 1:, 0]
        assert bool(((time[:, 1:] == time[:, :-1] + 1) | first).all())
        assert bool((windows["stream"] == windows["stream"][:, :1]).all())
        assert bool(windows["is_last"][:, :-1, 0][first].all())
        assert bool(first.any()), "no window crosses the end of an episode"


def test_a_collected_counting_env_gives_the_papers_records():
    env = make_counting_env(num_envs=2, length=[3, 5], num_actions=4, seed=0)
    batches = list(Collector(env, None, frames_per_batch=16, total_frames=48))
    records = [to_records(batch) for batch in batches]
    for s, length in ((0, 3), (1, 5)):
        mine = torch.cat([part[part["stream"] == s] for part in records])
        resets = -(-24 // length)
        assert len(mine) == 24 + resets
        time = torch.arange(len(mine)) % (length + 1)
        assert torch.equal(mine["pixels"][:, 0, 1, 1].long(), time)
        assert torch.equal(mine["reward"].flatten(), 10.0 * time)
        assert torch.equal(mine["is_first"].flatten(), time == 0)
        assert torch.equal(mine["is_terminal"].flatten(), time == length)
        # The env shows the action that led to a frame: 1 + a_{t-1}, or 0 if there was none.
        shown = mine["pixels"][:, 0, 0, 0].long()
        assert torch.equal((mine["prev_action"] * torch.arange(1, 5)).sum(-1), shown)
