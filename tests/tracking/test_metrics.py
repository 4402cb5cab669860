"""Each metric has one explanation; the seed's names are sums of the full ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import mario_dreamer
from mario_dreamer.commands import metrics as command
from mario_dreamer.tracking.metric_table import ROWS
from mario_dreamer.tracking.metrics import (
    METRICS,
    SEED_NAMES,
    describe,
    full_names,
    markdown_table,
    undocumented,
    with_seed_names,
)

PACKAGE = Path(mario_dreamer.__file__).parent


def test_every_name_is_in_the_table_once_and_no_cell_is_empty() -> None:
    names = [row[0] for row in ROWS]
    assert len(names) == len(set(names)) == len(METRICS)
    for row in ROWS:
        assert len(row) == 5 and all(cell.strip() == cell and cell for cell in row), row


def test_every_metric_is_computed_in_a_file_that_exists() -> None:
    missing = {row[4] for row in ROWS if not (PACKAGE / row[4]).is_file()}
    assert missing == set()


def test_an_unknown_metric_names_its_nearest_neighbour() -> None:
    with pytest.raises(KeyError, match="train/loss_dyn"):
        describe("train/los_dyn")


def test_a_placeholder_stands_for_one_word() -> None:
    assert describe("play/1-2/flag_rate").name == "play/<stage>/flag_rate"
    assert describe("evaluate/greedy/return").name == "evaluate/<condition>/return"
    assert undocumented(["play/1-2/3/flag_rate", "play//flag_rate"]) != []


def test_short_names_get_their_group_and_foreign_ones_stay() -> None:
    named = full_names({"loss_dyn": 1, "entropy": 2, "kl": 3, "total": 4, "loss_mine": 5})
    assert named == {
        "train/loss_dyn": 1,
        "dream/entropy": 2,
        "train/kl": 3,
        "train/loss_total": 4,
        "loss_mine": 5,
    }
    assert full_names({"mine": torch.tensor([1, 3])})["mine"] == 2.0


def test_the_seeds_names_are_sums_of_the_full_ones() -> None:
    parts = {part: 2.0**i for i, part in enumerate(sum(SEED_NAMES.values(), ()))}
    found = with_seed_names(parts)
    for name, terms in SEED_NAMES.items():
        assert found[name] == sum(parts[term] for term in terms)
    assert len(found) == len(parts) + 6
    assert with_seed_names({"speed/fps": 1.0}) == {"speed/fps": 1.0}


def test_the_markdown_table_has_a_line_for_each_metric() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == len(METRICS) + 2
    (kl,) = [line for line in lines if line.startswith("| `train/kl` |")]
    assert "KL[q \\|\\| p]" in kl
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)


def test_the_command_prints_and_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mario-dreamer metrics", *words])
        command.main()
        return capsys.readouterr().out

    printed = run()
    assert all(name in printed for name in METRICS)
    assert "kl" in run("kl") and "speed/fps" not in run("kl")
    run(f"out={tmp_path / 'table.md'}")
    assert (tmp_path / "table.md").read_text() == markdown_table()
    with pytest.raises(SystemExit):
        run("los_dyn")
    assert "train/loss_dyn" in capsys.readouterr().err
