"""Write the checkpoint that comes with the package: the agent alone, halved.

    python benchmarks/ship.py runs/NAME                      its newest checkpoint
    python benchmarks/ship.py runs/NAME/checkpoints/step_000100000 --results evaluation/results.json

Weights lie on disk in float16 and are float32 again when loaded; optimiser and replay stay at
home. `mario-dreamer play`, `view`, `dream` and `evaluate` use it where there is no run. Writes
agent.pt, config.yaml and manifest.json (SHA-256 sums, where it comes from, its evaluation).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from run_script import run_script

from mario_dreamer.exporting.evaluated import find_results, read_results
from mario_dreamer.training.checkpoint_files import (
    CheckpointError,
    find_run,
    read,
    steps_of,
    verify,
)

SHIPPED = Path(__file__).resolve().parents[1] / "mario_dreamer" / "shipped"
SMALL = 1024  # tensors of fewer elements keep their type: they weigh nothing
LIMIT = 12e6  # bytes of agent.pt: what a package may weigh for the sake of a first look


def halve(weights: dict[str, Any]) -> dict[str, Any]:
    """Round large float32 tensors to float16.

    Raises:
        ValueError: a weight that float16 cannot hold.
    """
    halved = {}
    for name, value in weights.items():
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and \
                value.numel() >= SMALL:  # fmt: skip
            half = value.half()
            if not torch.isfinite(half).all():
                raise ValueError(f"{name} holds numbers that float16 cannot: {value.abs().max()}.")
            value = half
        # Contiguous copies: a view would drag its whole storage along into the file.
        halved[name] = value.contiguous().clone() if isinstance(value, torch.Tensor) else value
    return halved


def averaged(weights: dict[str, Any]) -> dict[str, Any]:
    """Put averaged weights, which evaluation plays with, in the place of the latest ones."""
    prefix = "average."
    average = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {k: v for k, v in weights.items() if not k.startswith(prefix)} | average


def ship(checkpoint: Path, out: Path = SHIPPED, results: Path | None = None) -> Path:
    """Write the shipped form of a checkpoint into a folder, replacing what is there.

    Args:
        checkpoint: a whole checkpoint folder.
        out: where it goes.
        results: results.json of its evaluation; None looks next to it.

    Raises:
        CheckpointError: it is damaged. ValueError: too large, or no evaluation in `results`.
    """
    cfg = OmegaConf.load(checkpoint / "config.yaml")
    cfg.runs_dir, cfg.resume, cfg.init_from = "runs", None, None  # of the machine it was trained on
    for name, plain in (("sticky", 0.0), ("sticky_unit", "frame"), ("random_noops", 0)):
        if name in cfg.get("env", {}):
            cfg.env[name] = plain  # it is played from the plain start
    agent = halve(averaged(read(checkpoint, "agent")))
    found = results or find_results(checkpoint)
    keep = ("actions", "random_noops", "sticky", "sticky_unit", "summary")
    entries = read_results(found) if found else []
    evaluation = [{key: entry[key] for key in keep if key in entry} for entry in entries] or None
    partial = out.with_name(f".{out.name}-partial")  # nothing is left of what was refused above
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(agent, partial / "agent.pt")
    (partial / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    size = (partial / "agent.pt").stat().st_size
    if size > LIMIT:
        shutil.rmtree(partial)
        raise ValueError(f"agent.pt would be {size / 1e6:.1f} MB; at most {LIMIT / 1e6:.0f} ship.")
    files = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(partial.iterdir())
    }
    manifest = {
        "step": steps_of(checkpoint),
        "run": str(cfg.get("name") or checkpoint.parent.parent.name),
        "weights": "float16 on disk, float32 when loaded",
        "files": files,
        "evaluation": evaluation,
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    damage = verify(partial)
    assert damage is None, damage
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return out


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", help="a run folder or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--results", type=Path, help="results.json of mario-dreamer evaluate")
    arguments = parser.parse_args()
    out = ship(find_run(arguments.checkpoint, "runs"), arguments.out, arguments.results)
    size = (out / "agent.pt").stat().st_size
    evaluated = json.loads((out / "manifest.json").read_text())["evaluation"] is not None
    print(f"{out}: agent.pt {size / 1e6:.1f} MB, {'' if evaluated else 'no '}evaluation next to it")


if __name__ == "__main__":
    run_script(main, CheckpointError)
