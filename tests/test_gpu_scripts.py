"""The scripts for a GPU machine, as far as a machine without one can tell."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mario_dreamer.config import compose, limits
from mario_dreamer.config.trusted import check_targets

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # for what the scripts import


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_wheel(folder: Path, requires: str) -> Path:
    path, info = folder / "toy-1.0-py3-none-any.whl", "toy-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\nRequires-Python: {requires}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/RECORD", f"toy.py,,\n{info}/METADATA,sha256=x,1\n{info}/RECORD,,\n"
        )
    return path


def test_a_wheel_for_3_13_can_be_marked_for_3_12(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, ">=3.13")
    assert script("carry_wheels").allow_python_312(wheel) is True
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        body = archive.read("toy-1.0.dist-info/METADATA")
        record = archive.read("toy-1.0.dist-info/RECORD").decode().splitlines()
        assert archive.read("toy.py") == b"answer = 42\n"
    assert b"Requires-Python: >=3.12\n" in body
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    assert f"toy-1.0.dist-info/METADATA,sha256={digest},{len(body)}" in record
    assert len(record) == 3


def test_a_wheel_that_takes_3_12_stays_as_it_is(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, ">=3.9")
    before = wheel.read_bytes()
    assert script("carry_wheels").allow_python_312(wheel) is False
    assert wheel.read_bytes() == before


def test_wheels_of_another_version_than_the_listed_one_are_removed(tmp_path: Path) -> None:
    names = ["nes_py-9.0.0-cp312-a.whl", "nes_py-9.0.1-cp312-a.whl", "own-1.0-py3-none-any.whl"]
    for name in names:
        (tmp_path / name).touch()
    script("carry_wheels").remove_other_versions(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]


def test_what_comes_back_is_in_parts_that_join_to_one_archive(tmp_path: Path) -> None:
    run_gpu = script("run_gpu")
    run_gpu.PART = 1000
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    noise = torch.randint(0, 256, (3500,), dtype=torch.uint8).numpy().tobytes()
    (work / "agent.pt").write_bytes(noise)
    names = run_gpu.pack(work, out)
    assert len(names) == 4 and all((out / name).stat().st_size <= 1000 for name in names)
    (tmp_path / "all.tar.gz").write_bytes(b"".join((out / name).read_bytes() for name in names))
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert archive.extractfile("results/agent.pt").read() == noise


def test_without_wheels_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no wheels. Run benchmarks/carry_wheels.py"):
        script("run_gpu").install(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_benchmark_says_in_one_line_that_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    with pytest.raises(SystemExit, match=r"^error: .* sees no CUDA GPU .* --cpu tries [^\n]*$"):
        script("bench_gpu").main()


def test_a_failing_benchmark_row_is_one_failed_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def time_update(preset: str, sizes: list[str], device: str, compile: str) -> dict:
        raise RuntimeError("no Triton here\nand a long story")

    row = script("bench_gpu").attempt(time_update, "laptop", [], "cuda", "on+cudagraph")
    assert row == {
        "check": "time_update laptop cuda on+cudagraph",
        "found": "RuntimeError: no Triton here",
        "good": False,
    }


def test_the_gpu_experiment_is_the_laptop_recipe_compiled() -> None:
    plain, gpu = (
        compose.compose_default([f"experiment={name}"]) for name in ("laptop", "mario_1_1_gpu")
    )
    check_targets(gpu)
    limits.check_numbers(gpu)
    assert gpu.compile == "on+cudagraph" and gpu.collector.num_envs == 16
    parts = ("size", "encoder", "rssm", "loss", "optimizer", "actor", "critic", "replay")
    for part in (*parts, "train_ratio", "entropy_solved", "prefill"):
        assert gpu[part] == plain[part], part
    assert gpu.env == plain.env


def test_the_benchmark_runs_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    words = ["--cpu", "--presets", "laptop", "--repeats", "1", "--envs", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", *words])
    bench = script("bench_gpu")
    bench.TINY += ["batch_length=2", "imag_horizon=1"]
    composed = functools.cache(lambda *words: compose.compose_default(list(words)))
    checks = sys.modules["gpu_checks"]
    monkeypatch.setattr(checks, "compose_default", lambda words: composed(*words))
    learned = checks.weights_after
    monkeypatch.setattr(checks, "weights_after", lambda *words: learned(*words[:-1], count=2))
    bench.main()
    found = json.loads((tmp_path / "bench_gpu.json").read_text())
    assert len(found["checks"]) == 4 and all(row["good"] for row in found["checks"])
    assert found["updates"][0]["ms"] > 0
    kernels = list(csv.DictReader((tmp_path / "kernels.csv").open()))
    assert kernels[0]["kernel"] == "all" and len(kernels) == 41
    assert float(kernels[0]["ms"]) > float(kernels[1]["ms"]) > float(kernels[40]["ms"]) > 0
    assert "correct?" in capsys.readouterr().out
    assert (tmp_path / "laptop_off.json.gz").stat().st_size > 10_000


@pytest.mark.slow
def test_a_gpu_run_trains_and_packs_on_a_cpu(tmp_path: Path) -> None:
    words = [
        "--experiment", "debug", "--minutes", "5", "--episodes", "0", "--run", str(tmp_path / "run"),
        "--out", str(tmp_path / "out"), "env.image_size=16", "batch_size=2", "batch_length=6",
        "imag_horizon=2", "train_ratio=6", "log_every=32", "eval_every=0", "save_every=0",
        "steps=64", "device=cpu", "compile=off", "collector.num_envs=2", "threads=1",
    ]  # fmt: skip
    command = [sys.executable, str(BENCHMARKS / "run_gpu.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"curves.png", "results.tar.gz.00", "summary.md", "train.log"} <= left
