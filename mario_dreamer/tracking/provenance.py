"""Collect where a run comes from: commit, versions, machine, command line."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import torch

PACKAGES = ("torch", "torchrl", "tensordict", "mlflow", "gym-super-mario-bros", "nes-py", "numpy")


def _git(folder: Path, *args: str) -> str | None:
    """Ask git; None when there is no git, no repository, or no answer within 5 seconds."""
    command = ["git", "-C", str(folder), *args]
    try:
        answer = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.strip()


def git_info(folder: Path | None = None) -> dict[str, str]:
    """Return which commit of this package runs; empty when it does not run from a repository.

    Args:
        folder: of the package; None for where mario_dreamer lies.

    Returns:
        `git.commit`, `git.branch` and `git.dirty` ("true" when tracked files were changed).
    """
    folder = folder or Path(__file__).resolve().parents[1]
    # An installed copy may lie inside somebody else's repository: that commit is not ours.
    is_ours = _git(folder, "ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git(folder, "rev-parse", "HEAD") if is_ours else None
    if commit is None:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "git.commit": commit,
        "git.branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "",
        "git.dirty": "unknown" if changed is None else str(bool(changed)).lower(),
    }


def versions() -> dict[str, str]:
    """Return `version.<package>` of python and each package that results depend on."""
    found = {"version.python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[f"version.{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[f"version.{package}"] = "not installed"
    return found


def _processor() -> str:
    """Name of the processor, as people know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """Return `machine.<name>`: host, system, processor, cores, memory, GPU."""
    return {
        "machine.host": platform.node(),
        "machine.system": platform.platform(),
        "machine.cpu": _processor(),
        "machine.cores": str(os.cpu_count()),
        "machine.memory_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "machine.gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }


def provenance() -> dict[str, str]:
    """Return all of it as tags."""
    return {**git_info(), **versions(), **machine(), "command": " ".join(sys.argv)}
