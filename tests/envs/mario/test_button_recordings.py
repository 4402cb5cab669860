from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mario_dreamer.envs.mario.recordings import (
    pack_buttons,
    play_buttons,
    played_stage,
    unpack_buttons,
)

WIN = Path(__file__).parent / "win-1-1.npy"


def test_a_button_log_survives_being_packed() -> None:
    buttons = [0, 0, 129, 129, 129, 0]
    assert pack_buttons(buttons) == [[0, 2], [129, 3], [0, 1]]
    assert unpack_buttons(pack_buttons(buttons)) == buttons


@pytest.mark.parametrize("wrong", [[[300, 1]], [[1]], "junk", [[1, -1]], [[1, 10**9]], [[True, 1]]])
def test_what_is_no_button_log_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="a button log must be"):
        unpack_buttons(wrong)


def test_with_several_stages_the_last_frame_names_the_stage() -> None:
    stats = {"world": 4.0, "stage": 1.0}
    assert played_stage("1-1", stats) == "1-1"
    assert played_stage(["1-1", "4-1"], stats) == played_stage("all", stats) == "4-1"


@pytest.mark.rom
def test_a_film_knows_where_each_screen_lies() -> None:
    held = [int(byte) for byte in np.load(WIN)[:40]]
    played = play_buttons("1-1", held, 4, film=True)
    assert len(played.screens) == len(played.lefts) == len(played.areas) == 40
    assert played.screens[0].shape == (240, 256, 3)
    assert played.lefts[0] == 0 and played.lefts == sorted(played.lefts)
    assert 0 < played.lefts[-1] < played.stats["x_pos"] < played.lefts[-1] + 256
    assert set(played.areas) == {1}, "1-1 is above ground"
    by_frame = play_buttons("1-1", [byte for byte in held for _ in range(4)], 1)
    assert by_frame.stats == played.stats and by_frame.stats["frames"] == 160
