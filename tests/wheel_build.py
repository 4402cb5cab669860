"""Build the wheel from a copy of the checkout and unpack it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def unpacked_wheel(folder: Path) -> Path:
    """Return the folder that holds the wheel's content: what an installation copies."""
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("mario_dreamer", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    # The build backend itself, so that no pip is needed and nothing is fetched.
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_from(site: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the unpacked wheel, and without the checkout or an editable installation."""
    import torch

    libraries = Path(torch.__file__).parents[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    # -S: no site-packages, so no .pth file leads back to the checkout.
    env["PYTHONPATH"] = os.pathsep.join([str(site), str(libraries)])
    return subprocess.run(
        [sys.executable, "-S", *words], cwd=cwd, env=env, capture_output=True, text=True
    )
