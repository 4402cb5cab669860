"""The commands that play with a checkpoint: evaluate, play, dream, replay, runs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typed import command

from mario_dreamer import cli
from mario_dreamer.commands import replay as replay_actions
from mario_dreamer.commands import runs as list_runs
from mario_dreamer.commands.play import sentence_of
from mario_dreamer.envs.mario import recordings
from mario_dreamer.envs.mario.emulator import BUTTONS
from mario_dreamer.exporting import evaluated
from mario_dreamer.tracking.video import decode_video
from mario_dreamer.viewer.recordings import read_recording

WIN = Path(__file__).parents[1] / "envs" / "mario" / "win-1-1.npy"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny trained run in runs/tiny."""
    folder = tmp_path_factory.mktemp("commands")
    command(
        folder, "train", "experiment=debug", "env.image_size=16", "batch_size=4", "batch_length=8",
        "imag_horizon=3", "steps=192", "log_every=64", "eval_every=0", "tracker=none", "threads=1",
        "train_ratio=2", "name=tiny",
    )  # fmt: skip
    return folder


def test_play_films_an_episode_of_the_newest_checkpoint(run_folder: Path) -> None:
    said = command(run_folder, "play", "out=toy.mp4", "max_steps=100")
    frames, _ = decode_video(run_folder / "toy.mp4")
    assert said.count("\n") == 1 and len(frames) >= 1
    assert re.fullmatch(
        r"The episode (ended|was cut off) with a return of [-\d.]+ after \d+\.\d s of play "
        r"\(\d+ agent steps\); the film is toy\.mp4\.\n", said
    )  # fmt: skip
    short = command(run_folder, "play", "out=short.gif", "max_steps=2")
    assert "was cut off" in short and "(2 agent steps); the film is short.gif" in short


@pytest.mark.parametrize(
    ("ended", "sentence"),
    [
        ({"flag": 1.0}, "Mario reached the flag at x = 3161 of 1-2 after"),
        ({"flag": 0.0}, "Mario died at x = 3161 of 1-2 after"),
        ({"flag": 0.0, "terminated": 0.0},
         "Mario was still on the way at x = 3161 of 1-2 when the episode was cut off after"),
    ],
)  # fmt: skip
def test_play_says_flag_or_not_in_one_sentence(ended: dict[str, float], sentence: str) -> None:
    info = {"return": 4121.0, "length": 281.0, "terminated": 1.0, "x_pos": 3161.0,
            "world": 1.0, "stage": 2.0, **ended}  # fmt: skip
    end = " 18.7 s of play (281 agent steps); the film is play.mp4."
    assert sentence_of(info, 4, Path("play.mp4")) == sentence + end


def test_dream_writes_a_film_and_a_strip(run_folder: Path) -> None:
    said = command(
        run_folder, "dream", "runs/tiny", "out=d.gif", "start=0", "context=3", "steps=8", "rows=2"
    )
    assert "open loop" in said
    assert (run_folder / "d.gif").stat().st_size > 1000
    assert (run_folder / "d.png").stat().st_size > 1000


def test_evaluate_prints_a_table_and_keeps_the_results(run_folder: Path) -> None:
    said = command(run_folder, "evaluate", "episodes=2", "out=kept", "max_steps=200")
    results = json.loads((run_folder / "kept/results.json").read_text())["results"]
    assert [entry["actions"] for entry in results] == ["sampled", "greedy"]
    assert "sampled" in said and "greedy" in said
    assert "note: episodes begin at random here" in said, "the corridor begins in a random cell"
    assert read_recording(run_folder / "kept/greedy-best-0.json").is_random
    assert len((run_folder / "kept/episodes.csv").read_text().splitlines()) == 1 + 2 * 2
    assert "Provenance" in (run_folder / "kept/evaluation.html").read_text()
    assert not (run_folder / "mlflow.db").exists(), "a run that was not in MLflow stays out of it"


def test_report_writes_one_file_about_a_run(run_folder: Path) -> None:
    said = command(run_folder, "report", "runs/tiny", "episodes=2", "horizon=4")
    page = (run_folder / "runs/tiny/report.html").read_text()
    assert "report.html" in said
    for words in ("Learning curves", "Calibration", "Open-loop prediction", "Latent usage", "Losses"):
        assert words in page
    assert not (run_folder / "mlflow.db").exists()


def test_runs_lists_what_is_there(run_folder: Path) -> None:
    said = command(run_folder, "runs")
    assert "FINISHED" in said and "tiny" in said
    assert list_runs.summary_of(run_folder / "runs" / "tiny")["steps"] >= 192


def test_a_wrong_word_gets_one_clear_line(run_folder: Path) -> None:
    assert "no command 'fly'" in command(run_folder, "fly", code=2)
    (run_folder / "taken").write_text("a file")
    words = ("evaluate", "episodes=1", "conditions=greedy", "out=taken")
    assert "condition  " not in command(run_folder, *words, code=1), "before any episode"
    assert "ending in .mp4 or .gif" in command(run_folder, "play", "out=x.avi", code=1)
    near = command(run_folder, "play", "checkpoint=tiny", code=1)
    assert "no run, checkpoint or file is there. Did you mean runs/tiny?" in near
    assert "at least 1" in command(run_folder, "evaluate", "episodes=0", code=1)


def action_list(path: Path, claims: dict[str, int], steps: int | None = None) -> Path:
    """The first so many winning buttons as an action list, with claims about its outcome."""
    buttons = np.load(WIN)[:steps]
    kinds = sorted({int(byte) for byte in buttons})
    names = ["+".join(n for n, bit in BUTTONS.items() if kind & bit) or "noop" for kind in kinds]
    saved = {
        "env": {"stage": "1-1", "action_set": names, "action_repeat": 4},
        "actions": [kinds.index(int(byte)) for byte in buttons],
        "facts": claims,
    }
    path.write_text(json.dumps(saved))
    return path


@pytest.mark.rom
def test_a_saved_win_is_verified_in_the_raw_emulator(tmp_path: Path, monkeypatch, capsys) -> None:
    path = action_list(tmp_path / "win.json", {"x_max": 3161, "flag": 1})
    monkeypatch.setattr(sys, "argv", ["replay", str(path)])
    replay_actions.main()
    assert "VERIFIED" in capsys.readouterr().out


@pytest.mark.rom
def test_a_false_claim_is_not_verified(tmp_path: Path, monkeypatch, capsys) -> None:
    path = action_list(tmp_path / "lie.json", {"x_max": 9999, "flag": 0}, 8)
    monkeypatch.setattr(sys, "argv", ["replay", str(path)])
    with pytest.raises(SystemExit) as exit_info:
        replay_actions.main()
    assert exit_info.value.code == 1 and "NOT VERIFIED" in capsys.readouterr().err


@pytest.mark.rom
def test_a_button_log_is_pressed_frame_by_frame(tmp_path: Path, monkeypatch, capsys) -> None:
    frames = [int(byte) for byte in np.load(WIN)[:30] for _ in range(4)]
    stats = recordings.play_buttons("1-1", frames, 1).stats
    path = action_list(tmp_path / "random.json", {"x_max": stats["x_max"], "time": stats["time"]})
    # Sticky actions: what the agent chose is not what was pressed.
    saved = json.loads(path.read_text()) | {"actions": [0], "buttons": recordings.pack_buttons(frames)}
    path.write_text(json.dumps(saved))
    monkeypatch.setattr(sys, "argv", ["replay", str(path)])
    replay_actions.main()
    assert "VERIFIED" in capsys.readouterr().out


def test_a_file_that_is_no_action_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.json"
    path.write_text('{"env": {"stage": "1-1", "action_set": "simple"}, "actions": [99]}')
    with pytest.raises(ValueError, match="not an action list"):
        replay_actions.read_actions(path)
    path.write_text('{"env": {"env_id": "CartPole-v1"}, "actions": [1], "stats": {}}')
    with pytest.raises(ValueError, match="an env without stages; the emulator plays Mario alone"):
        replay_actions.read_actions(path)


@pytest.mark.parametrize(
    "read", [replay_actions.read_actions, read_recording, evaluated.read_results]
)
def test_a_device_or_a_pipe_named_as_a_file_is_refused_at_once(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="not a regular file"):
            read(path)


def test_the_command_alone_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    said = capsys.readouterr().out
    assert all(f"mario-dreamer {name}" in said for name in cli.COMMANDS)
