from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mario_dreamer.reporting.agent_sections import by_stage
from mario_dreamer.reporting.deaths import death_chart, outcome
from mario_dreamer.reporting.level_map import level_map, map_of_buttons
from mario_dreamer.training.evaluation import Episode

WIN = Path(__file__).parents[1] / "envs" / "mario" / "win-1-1.npy"


def strip(*shades: int) -> np.ndarray:
    """A screen of height 1, one shade per column."""
    return np.array([[[shade] * 3 for shade in shades]], np.uint8)


def test_two_overlapping_screens_make_one_strip() -> None:
    picture = level_map([strip(10, 20, 30), strip(20, 30, 40)], [0, 1])
    assert picture[0, :, 0].tolist() == [10, 20, 30, 40]
    assert picture.shape == (1, 4, 4) and (picture[..., 3] == 255).all()


def test_what_was_not_reached_stays_blank() -> None:
    picture = level_map([strip(10, 20), strip(70, 80)], [0, 4])
    assert picture[0, :, 3].tolist() == [255, 255, 0, 0, 255, 255]
    assert picture[0, :, 0].tolist() == [10, 20, 0, 0, 70, 80]


def test_an_enemy_that_passes_does_not_stay_on_the_map() -> None:
    # the background is 10, 20, 30; an enemy of shade 99 walks over it from right to left
    frames = [strip(10, 20, 99), strip(10, 99, 30), strip(99, 20, 30)]
    picture = level_map(frames, [0, 0, 0])
    assert picture[0, :, 0].tolist() == [10, 20, 30]


def test_a_map_shows_no_colour_that_was_not_there() -> None:
    picture = level_map([strip(10), strip(200)], [0, 0])
    assert picture[0, 0, 0] in (10, 200)


def test_unreached_columns_are_grey_on_the_chart() -> None:
    picture = level_map([strip(10), strip(20)], [0, 2])
    (drawn,) = death_chart([{"x_pos": 1.0}], picture).axes[1].get_images()
    assert drawn.get_array()[0, :, 3].tolist() == [255, 0, 255]


@pytest.mark.rom
@pytest.mark.parametrize(
    ("steps", "left"), [(80, 646), pytest.param(314, 3027, marks=pytest.mark.slow)]
)
def test_the_winning_buttons_draw_1_1_without_a_gap(steps: int, left: int) -> None:
    buttons = [int(byte) for byte in np.load(WIN)[:steps] for _ in range(4)]
    picture = map_of_buttons("1-1", buttons, every=16)
    assert picture.shape == (208, left + 256, 4) and (picture[..., 3] == 255).all()
    sky = (104, 136, 252)  # the console's blue
    shares = (np.abs(picture[..., :3].astype(int) - sky).sum(-1) < 12).mean(0)  # of each column
    assert float(np.median(shares)) > 0.5, "most of 1-1 is sky"


def test_an_end_has_a_name() -> None:
    assert outcome({"flag": 1.0, "terminated": 1.0}) == "flag"
    assert outcome({"flag": 0.0, "terminated": 1.0, "time": 300.0}) == "died"
    assert outcome({"flag": 0.0, "terminated": 1.0, "time": 0.0}) == "time ran out"
    assert outcome({"flag": 0.0, "terminated": 0.0}) == "stopped"
    assert outcome({"terminated": 1.0}) == "ended"  # no Mario: a goal as well as a fall


def test_crosses_stand_where_mario_died() -> None:
    ends = [
        {"x_pos": 700.0, "x_max": 720.0, "flag": 0.0, "y_pos": 79.0, "terminated": 1.0, "time": 9.0},
        {"x_pos": 700.0, "x_max": 710.0, "flag": 0.0, "terminated": 1.0, "time": 9.0},
        {"x_pos": 90.0, "x_max": 90.0, "terminated": 0.0},
    ]
    bars, level = death_chart(ends).axes
    marks = {line.get_label(): line for line in level.get_lines()}
    assert list(marks["died 2"].get_xdata()) == [700.0, 700.0]
    assert list(marks["stopped 1"].get_xdata()) == [90.0]
    assert marks["died 2"].get_markersize() >= 10
    counts = {bar.get_x() // 40 * 40: bar.get_height() for bar in bars.patches}
    assert counts[680] == 2 and sum(counts.values()) == 3


def test_a_long_level_is_drawn_in_rows() -> None:
    chart = death_chart([{"x_pos": 3161.0, "flag": 1.0}])
    assert len(chart.axes) == 4
    assert chart.axes[1].get_xlim()[1] == chart.axes[3].get_xlim()[0]
    assert chart.axes[0].get_ylim() == chart.axes[2].get_ylim() and chart.axes[0].get_ylim()[0] == 0


def test_episodes_are_sorted_by_stage() -> None:
    played = [Episode({"world": 1.0, "stage": number}) for number in (2.0, 1.0, 2.0)]
    found = by_stage(played, ("1-1", "1-2"))
    assert {stage: len(mine) for stage, mine in found.items()} == {"1-1": 1, "1-2": 2}
    assert by_stage([Episode({})], ("4-1",)).keys() == {"4-1"} and by_stage(played, ()) == {}
