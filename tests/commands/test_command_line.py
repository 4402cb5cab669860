"""The command line: help and errors without torch, near misses, one table of limits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny import make_tiny

from mario_dreamer import cli
from mario_dreamer.commands._command import entry_point
from mario_dreamer.config import command_line, limits

WRONG = {
    "train experiment=lptop": "experiment=lptop: did you mean laptop?",
    "train --steps 100": "typed as NAME=VALUE, here steps=100",
    "train --steps=100": "here steps=100",
    "train laptop": "Did you mean experiment=laptop?",
    "train optimizer.lr={actr:1}": "no group 'actr'; did you mean actor? Give one number, or one",
    "train resume=latest optimizer.clip_norm={actr:1}": "no group 'actr'; did you mean actor?",
    "train optimizer=adam optimizer.lr={polisy:1}": "there is no group 'polisy'. Give one number",
    "train optimizer.lr={actor:1}": "optimizer.lr: world_model and critic missing.",
    "train optimizer.lr=[1,2]": "optimizer.lr: got [1, 2]. Give one number, or one for each of",
    "train +optimizer.eps=1": "optimizer.eps: got 1. Give one for each of world_model, actor",
    "train lr=3": "did you mean optimizer.lr=...?",
    "train steps": "is at 'steps'",
    "train seed=1 steps": "'steps': options are typed as NAME=VALUE",
    "train seed=0,1": "add --multirun",
    "train steps=${nothing}": "'nothing' not found",
    "train env=null": "env=null: expected one of",
    "train env=gym env.pixels=maybe": "env.pixels must be true or false, or null; got 'maybe'",
    "train env=atari env.all_actions=3": "env.all_actions must be true or false; got 3",
    "train env.show_stage=maybe": "env.show_stage must be true or false; got 'maybe'",
    "train env=atari env.noops=-1": "env.noops must be a whole number, at least 0",
    "train env=gym env.scale=2": "env.scale must be a list of numbers, or null; got 2",
    "train env=gym env.scale=[a,2]": "env.scale.0 must be a number",
    "train env=gym env.options=3": "env.options must be options by name, or null; got 3",
    "train collector=distributed collector.slurm=5": "collector.slurm must be options by name, or null",
    "train resume=nowhere": "resume=nowhere: no run, checkpoint or file is there. mario-dreamer runs",
    "train env.stage=9-9": 'env.stage must be one of "1-1" to "8-4"',
    "train device=gpu": "device must be auto, cpu, mps, cuda or cuda:N; got 'gpu'",
    "train precision=half": "precision must be one of auto, bf16, 16, fp32, 32",
    "train name=..": "name must be a folder's name",
    "train name=a/b": "name must be a folder's name",
    "train resume=latest steps=many": "steps must be a whole number",
    "train env.image_size=100000": "env.image_size must be a whole number",
    "train -m seed=x,1": "seed must be a whole number",
    "train -m seed=0,1,x": "seed must be a whole number, at least 0 and at most 2147483647; got 'x'",
    "train -m experiment=debug,lptop": "experiment=lptop: did you mean laptop?",
    "train -m env.stage=1-1,9-9": 'env.stage must be one of "1-1" to "8-4"',
    "train --cfg job env.stge=1-2": "did you mean env.stage=...?",
    "train experiment=debug batch_length=999 replay.capacity=99": "Raise replay.capacity to 7992",
    "train actor=tanh_normal actor.min_std=3 actor.max_std=1": "min_std=3 is above actor.max_std=1",
    "train experiment_name=a/b": "experiment_name must be a folder's name",
    "train optimizer.optimizer.betas=1": "optimizer.optimizer.betas must be two numbers; got 1",
    "train experiment=null": "experiment=null: expected one of",
    "train env=own env.size=20": "an option of an env of your own is added, +env.size=20.",
    "train -m seed=0,1 name=sw": "name=sw: each run of a sweep has a folder of its own; 'name=sw-${seed}'",
    "train imagination_starts=1": "Give 2 or more, or loss.critic.replay_scale=0",
    "dream steps=8 context=8": "none is predicted. Give steps=56",
    "dream out=a.avi": "out must be a file ending in .mp4 or .gif",
    "dream start=1000000": "play 4,001,024 agent steps (rows * (start + 4 * steps)), more than 100,",
    "play episodes=1000": "episodes must be a whole number, at least 1 and at most 100",
    "train -m seed=range(0)": "this sweep has no value",
    f"train {'x' * 5000}": "no run, checkpoint or file is at",
    f"train name={'n' * 300}": "name must be a folder's name, at most 200 characters",
    "train =3": "'=3': options are typed as NAME=VALUE",
    "train ~critic": "~critic: this option cannot be left out",
    "train env.reward=sparse": "this is a group of options: env.reward.kind",
    "export format=mlflow register=a/b": "register must be a model's name, without / and :",
    "export register=mario": "add format=mlflow",
    "export out=policy.onnx": "a file ending in .pt2",
    "evaluate episodes=many": "episodes must be a whole number",
    "evaluate conditions=[greedy,fast]": "conditions must be all, or some of sampled",
    "evaluate env.sticky=2": "env.sticky must be a number, at least 0 and at most 1",
    "evaluate track=maybe": "track must be one of auto, true, false",
    "play scale=1.5": "scale must be a whole number",
    "play greedy=perhaps": "greedy must be true or false",
    "play weights=best": "weights must be one of average, latest",
    "dream steps=-1": "steps must be a whole number",
    "dream rows=0": "rows must be a whole number",
    "view port=null": "port must be a whole number, at least 0 and at most 65535; got null",
    "view port=99999": "port must be a whole number",
    "view host=null": "host must be text; got null",
    "report horizon=1e9": "horizon must be a whole number",
    "report episodes=-1": "episodes must be a whole number, at least 0",
    "train ++a.b=1": "++a.b=1: there is no option 'a.b'; see configs/train.yaml",
    "train hydra/launcher=nobodys": "no such plugin here; pip install \"mario_dreamer[sweep]\"",
    "train ++size.foo=3": "there is no option 'size.foo'; did you mean size.",
    "train +head@foo=mse": "there is no option 'foo'",
    "play +checkpont=x": "did you mean checkpoint=...?",
    "train env=[toy,counting]": "env=[toy,counting]: give one of atari",
    "train experiment=debug,laptop": "several values are a sweep; add --multirun",
    "train runs_dir=/dev/null": "cannot write to runs_dir=/dev/null: a file is there",
    "train replay=memmap replay.path=/dev/null": "cannot write to replay.path=/dev/null: a file",
    "play out=/proc/x.gif": "cannot write to out=/proc/x.gif: No such file",
    "evaluate out=/dev/null": "cannot write to out=/dev/null: a file is there",
    "export format=onnx": "format must be one of pt2, mlflow",
}


def refused(line: str) -> str:
    command, *words = line.split(" ")
    with pytest.raises(ValueError) as error:
        command_line.checked_words(command, words)
    return str(error.value)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_word_is_one_line_that_says_what_is_right(line: str) -> None:
    message = refused(line)
    assert WRONG[line] in message and "\n" not in message


@pytest.mark.parametrize(
    "line",
    ["train ++optimizer.optimizer.eps=1e-8 env=own +env.task=x ++mine=32 rssm.deter_dim=${mine} "
     "+encoders.vector_x={units:3} ~critic.layers", "play ++env.foo=1"],
)  # fmt: skip
def test_options_that_are_added_or_deleted_are_accepted(line: str) -> None:
    command, *words = line.split(" ")
    assert command_line.checked_words(command, words) == words


def test_the_output_on_a_full_disk_is_one_line_and_1() -> None:
    for words in (["--version"], ["train", "--help"], ["metrics"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "mario_dreamer", *words], stdout=full,
                stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "cannot write the output: No space left on device" in done.stderr


def test_a_command_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise DeprecationWarning("a library that warns, under PYTHONWARNINGS=error")

    monkeypatch.setattr(cli.importlib, "import_module", broken)
    with pytest.raises(SystemExit) as end:
        cli.main(["metrics"])
    said = capsys.readouterr().err
    assert end.value.code == 1 and said.startswith("error: metrics cannot be loaded (Deprecation")


def test_a_current_folder_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "experiment=debug"])
    assert end.value.code == 1 and "the current folder is gone" in capsys.readouterr().err


def test_replay_without_a_file_answers_without_torch() -> None:
    done, _ = program("replay")
    assert done.returncode == 1 and "which action list?" in done.stderr
    assert " torch" not in done.stderr


def program(*words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.process_time(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mario_dreamer", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done, time.monotonic() - began[1]


@pytest.mark.parametrize("command", [*cli.COMMANDS, ""])
def test_help_imports_neither_torch_nor_hydra(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = [command, "--help"] if command else ["--help"]
    before = set(sys.modules)
    cli.main(words)
    assert set(sys.modules) == before
    assert f"mario-dreamer {command}".strip() in capsys.readouterr().out


def test_a_wrong_option_ends_before_torch_is_imported() -> None:
    done, seconds = program("train", "experimnt=laptop")
    assert done.returncode == 1 and "did you mean experiment=...?" in done.stderr
    assert "hydra" in done.stderr and " torch" not in done.stderr
    help, _ = program("train", "--help")
    assert "learn to play" in help.stdout and " hydra" not in help.stderr
    assert seconds < 20, "it takes half a second on an idle machine"


def test_a_question_to_hydra_is_answered_without_torch() -> None:
    done, _ = program("play", "--cfg", "job", "env.stage=1-2")
    assert done.returncode == 0 and "stage: 1-2" in done.stdout and " torch" not in done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture) -> None:
    cli.main(["--version"])
    assert capsys.readouterr().out.startswith("mario-dreamer ")


def test_a_misspelt_command_names_what_is_near(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trian"])
    assert ended.value.code == 2 and "did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "train --help"])
def test_a_reader_that_leaves_early_ends_the_program_quietly(words: str) -> None:
    call = f"{sys.executable} -m mario_dreamer {words} | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):  # it is a race who is first
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_number_typed_for_a_name_is_text() -> None:
    words = command_line.checked_words("train", ["name=42", "runs_dir=2026", "seed=7"])
    cfg = command_line.compose_config("train", words)
    assert (cfg.name, cfg.runs_dir, cfg.seed) == ("42", "2026", 7)
    assert command_line.checked_words("train", ["name=null"]) == ["name=null"]


def test_options_of_a_stored_configuration_may_be_typed() -> None:
    words = command_line.checked_words("play", ["env.stage=1-2", "env.max_steps=9"])
    cfg = command_line.compose_config("play", words)
    assert cfg.env == {"stage": "1-2", "max_steps": 9}
    words = command_line.checked_words("train", ["resume=latest", "env.cells=9", "steps=5"])
    assert words == ["resume=latest", "++env.cells=9", "++steps=5"]


@pytest.mark.parametrize("command", command_line.CONFIGURED)
def test_every_option_of_every_command_has_a_rule(command: str) -> None:
    cfg = OmegaConf.to_container(OmegaConf.load(command_line.CONFIGS / f"{command}.yaml"))
    session = OmegaConf.to_container(OmegaConf.load(command_line.CONFIGS / "session.yaml"))
    options = cfg if command == "train" else session | cfg
    names = [name for name, value in options.items() if not isinstance(value, dict)]
    without = [name for name in names if limits.rule_of(name, command) is None]
    groups = ("defaults", "encoders", "decoders")
    without = [name for name in without if name not in groups]
    assert without == []


def test_a_class_from_elsewhere_has_rules_of_its_own() -> None:
    limits.check_numbers({"env": {"_target_": "my.env", "stage": "forest", "max_steps": 0}})
    with pytest.raises(ValueError, match="env.max_steps"):
        limits.check_numbers({"env": {"_target_": "mario_dreamer.envs.x", "max_steps": 0}})


def test_the_folder_of_the_configurations_is_found() -> None:
    assert (Path(command_line.CONFIGS) / "train.yaml").is_file()


def test_groups_of_the_optimizer_are_those_of_the_learner() -> None:
    groups = make_tiny().learner.optimizer.optimizer.param_groups
    assert tuple(group["name"] for group in groups) == limits.GROUPS


@pytest.mark.parametrize(
    ("value", "is_shown"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)]
)
def test_tracebacks_are_shown_only_on_demand(
    value: str | None, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cfg: object) -> None:
        raise ValueError("wrong")

    monkeypatch.delenv("MARIO_DREAMER_TRACEBACK", raising=False)
    if value is not None:
        monkeypatch.setenv("MARIO_DREAMER_TRACEBACK", value)
    with pytest.raises(ValueError if is_shown else SystemExit):
        entry_point(fail)(OmegaConf.create())


@pytest.mark.skipif(sys.platform != "linux", reason="others need no display server")
@pytest.mark.parametrize(
    ("display", "driver"), [({}, "dummy"), ({"DISPLAY": ":0"}, None), ({"SDL_VIDEODRIVER": "x11"}, "x11")]
)  # fmt: skip
def test_pygame_is_told_where_there_is_no_screen(
    display: dict[str, str], driver: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environment := {"PATH": os.environ["PATH"], **display})
    with pytest.raises(SystemExit):
        cli.main(["train", "nowhere"])
    assert environment.get("SDL_VIDEODRIVER") == driver


def test_options_of_your_own_class_have_no_rules_of_ours() -> None:
    words = ["env=own", "env._target_=mine.make_env", "+env.sticky=5", "encoder._target_=mine.Encoder"]
    words += ["encoder.depth=0.5"]
    assert command_line.checked_words("train", words) == words
    with pytest.raises(ValueError, match="depth must be a whole number"):
        command_line.checked_words("train", ["encoder.depth=0.5"])
