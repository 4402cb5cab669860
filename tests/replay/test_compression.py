from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from mario_dreamer.replay import Replay, make_replay

SIZES = {"capacity": 60, "num_streams": 2, "batch_size": 3, "batch_length": 4, "latents": False}


def played(steps: int, noise: bool) -> TensorDict:
    """Transitions [2, steps] of 3 x 16 x 16 frames: noise does not compress, flat ones do."""
    flat = torch.arange(2 * steps).reshape(2, steps, 1, 1, 1).expand(2, steps, 3, 16, 16)
    frames = torch.randint(0, 256, flat.shape) if noise else flat
    frames = frames.to(torch.uint8).contiguous()
    flag = torch.zeros(2, steps, 1, dtype=torch.bool)
    after = {"pixels": frames, "reward": torch.rand(2, steps, 1), "terminated": flag, "done": flag}
    action = torch.eye(3, dtype=torch.int64)[torch.randint(3, (2, steps))]
    root = {"pixels": frames, "is_init": flag, "action": action, "next": after}
    return TensorDict(root, [2, steps])


def pair(codec: str, path: Path) -> tuple[Replay, Replay]:
    """The same replay in memory and in compressed files."""
    files = make_replay(**SIZES, storage="compressed", path=str(path), codec=codec, slot_bytes=200)
    return make_replay(**SIZES), files


def equal(one: TensorDict, other: TensorDict) -> bool:
    return set(one.keys()) == set(other.keys()) and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key])
        for key in one.keys()
    )


@pytest.mark.parametrize("codec", ["zlib", "lz4"])
def test_compressed_files_give_the_batches_of_memory(codec: str, tmp_path: Path) -> None:
    if codec == "lz4":
        pytest.importorskip("lz4")
    memory, files = pair(codec, tmp_path)
    for noise in (True, False, True, False):  # rings go around: long images come and go
        transitions = played(17, noise)
        memory.extend(transitions)
        files.extend(transitions)
        assert equal(memory.sample(), files.sample())
    assert equal(memory.newest(1, 5), files.newest(1, 5))


def test_an_image_that_fits_leaves_nothing_in_memory(tmp_path: Path) -> None:
    _, files = pair("zlib", tmp_path)
    files.extend(played(30, noise=True))
    assert len(files.buffer.storage.long) == 60
    files.extend(played(30, noise=False))
    assert len(files.buffer.storage.long) == 0


@pytest.mark.parametrize("storage", ["memmap", "compressed"])
def test_replay_in_files_resumes_from_a_copy_in_files(storage: str, tmp_path: Path) -> None:
    replay = make_replay(**SIZES, storage=storage, path=str(tmp_path / "a"))
    replay.extend(played(25, noise=True))
    torch.save(replay.state_dict(), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True, mmap=True)
    other = make_replay(**SIZES, storage=storage, path=str(tmp_path / "b"), seed=5)
    other.load_state_dict(saved)
    assert equal(replay.sample(), other.sample())
    assert [path.suffix for path in (tmp_path / "a").iterdir()].count("") == 0, "no copy stays"


@pytest.mark.parametrize("storage", ["memmap", "compressed"])
def test_files_of_no_folder_are_on_disk_and_gone_with_the_replay(storage: str) -> None:
    replay = make_replay(**SIZES, storage=storage)
    replay.extend(played(25, noise=False))
    folder = Path(str(replay.buffer.storage.scratch_dir))
    assert folder.is_relative_to(tempfile.gettempdir()) and any(folder.iterdir())
    del replay
    gc.collect()
    assert not folder.exists()


def test_torchrls_own_saving_is_refused_where_it_would_lose_images(tmp_path: Path) -> None:
    _, files = pair("zlib", tmp_path)
    files.extend(played(25, noise=False))
    for save in (files.buffer.state_dict, lambda: files.buffer.dumps(tmp_path / "saved")):
        with pytest.raises(RuntimeError, match=r"is saved by Replay\.state_dict"):
            save()


def test_a_batch_read_ahead_is_read_again_for_another_batch_size(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    replay = make_replay(**SIZES, storage="memmap", path=path, prefetch=True)
    replay.extend(played(25, noise=False))
    replay.sample()
    sizes = SIZES | {"batch_size": 2}
    other = make_replay(**sizes, storage="memmap", path=str(tmp_path / "b"), prefetch=True)
    other.load_state_dict(replay.state_dict())
    assert other.sample().shape == (2, 4)


def test_another_codec_is_refused() -> None:
    with pytest.raises(ValueError, match=r"replay.codec must be one of zlib, lz4"):
        make_replay(**SIZES, storage="compressed", codec="png")
