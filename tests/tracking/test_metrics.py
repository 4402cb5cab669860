"""Every metric is explained once, and whoever asks for another one is told."""

from __future__ import annotations

import pytest

from mario_dreamer.tracking.metric_table import ROWS
from mario_dreamer.tracking.metrics import (
    METRICS,
    describe,
    full_names,
    markdown_table,
    undocumented,
)


def test_every_name_stands_in_the_table_once() -> None:
    names = [row[0] for row in ROWS]
    assert len(names) == len(set(names)) == len(METRICS)


def test_no_cell_of_the_table_is_empty() -> None:
    for row in ROWS:
        assert len(row) == 5, row
        assert all(cell.strip() == cell and cell for cell in row), row


def test_every_metric_is_plain_or_in_a_known_group() -> None:
    plain = {"train_return", "eval_return", "model_loss", "actor_loss", "value_loss", "kl"}
    groups = {"train", "dream", "play", "eval", "speed", "run", "system", "evaluate", "report"}
    for name in METRICS:
        assert name in plain or name.split("/")[0] in groups, name
    assert plain <= set(METRICS)


def test_every_loss_term_of_the_losses_is_documented() -> None:
    terms = ["recon", "reward", "cont", "dyn", "rep", "actor", "critic", "critic_replay"]
    assert undocumented(f"train/loss_{term}" for term in terms) == []


def test_an_unknown_metric_names_its_nearest_neighbour() -> None:
    with pytest.raises(KeyError, match="train/loss_dyn"):
        describe("train/los_dyn")


def test_the_learners_short_names_get_their_group() -> None:
    named = full_names({"loss_dyn": 1, "entropy": 2, "kl": 3, "total": 4, "posterior": 5})
    assert named == {
        "train/loss_dyn": 1,
        "dream/entropy": 2,
        "kl": 3,
        "train/kl": 3,
        "train/loss_total": 4,
    }


def test_the_markdown_table_has_a_line_per_metric_and_escapes_bars() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == len(METRICS) + 2
    (kl,) = [line for line in lines if line.startswith("| `kl` |")]
    assert "KL[q \\|\\| p]" in kl
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)
