"""Put what a GPU machine without a network lacks into a folder of wheels, for Python 3.12.

    python benchmarks/carry_wheels.py --python ~/.pyenv/versions/3.12.1/bin/python

Run here, where pip works; `run_gpu.py` installs the folder there. nes-py and gym-super-mario-bros
publish nothing for Python below 3.13, so their source packages are built here (a C++ compiler is
needed) and the wheels' METADATA says 3.12. The folder .whl is ignored by git (this script sees to
it) and weighs 39 MiB; PyTorch, numpy, matplotlib and what else a GPU image has stay behind.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from run_script import run_script

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 64 * 2**20  # bytes that could be carried to the GPU machine, the working tree included
# What an image with torch 2.11 lacks, with the
# versions that were seen working together on Python 3.12. MLflow is left out: tracker=csv.
PURE = (
    "tensordict==0.14.3", "torchrl==0.14.1", "pyvers==0.2.3", "orjson==3.13.0",
    "hoptorch==0.1.4", "lazy-importer==0.1.0", "importlib-metadata==10.2.0", "zipp==4.1.2",
    "gymnasium==1.4.0", "farama-notifications==0.0.6", "hydra-core==1.3.8", "omegaconf==2.3.1",
    "av==19.0.2",
)  # fmt: skip
BUILT = ("nes-py==9.0.1", "gym-super-mario-bros==9.1.0", "antlr4-python3-runtime==4.9.3")
GLIBC = (17, 24, 27, 28, 31, 34, 35)  # manylinux_2_N; pip wants each by name


def download(names: list[str], folder: Path, python: str) -> None:
    """Fetch ready-made wheels for Python 3.12 on 64-bit x86 Linux."""
    command = [python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp"]
    for glibc in GLIBC:
        command += ["--platform", f"manylinux_2_{glibc}_x86_64"]
    command += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]
    subprocess.run([*command, "-d", str(folder), *names], check=True)


def build(names: list[str], folder: Path, python: str) -> None:
    """Build wheels from source; `python` has to be a 3.12."""
    pip, willing = [python, "-m", "pip"], ["-q", "--no-deps", "--ignore-requires-python"]
    plain = ",".join(name.split("==")[0] for name in names)
    with tempfile.TemporaryDirectory() as sources:
        # In two steps: `pip wheel` from the index does not hear --ignore-requires-python.
        fetch = [*pip, "download", *willing, "--no-binary", plain, "-d", sources, *names]
        subprocess.run(fetch, check=True)
        files = sorted(map(str, Path(sources).iterdir()))
        subprocess.run([*pip, "wheel", *willing, "-w", str(folder), *files], check=True)


def allow_python_312(wheel: Path) -> bool:
    """Let a wheel's METADATA say that Python 3.12 will do; return whether it had to be changed.

    Args:
        wheel: a .whl file, rewritten in place with its RECORD put right.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    names = {info.filename: info for info in files}
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
    record = metadata.replace("METADATA", "RECORD")
    text = files[names[metadata]].decode()
    changed = re.sub(r"(?m)^Requires-Python: *>= *3\.1[3-9].*$", "Requires-Python: >=3.12", text)
    if changed == text:
        return False
    body = changed.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    lines = files[names[record]].decode().splitlines()
    lines = [
        f"{metadata},sha256={digest},{len(body)}" if line.startswith(f"{metadata},") else line
        for line in lines
    ]
    files[names[metadata]], files[names[record]] = body, ("\n".join(lines) + "\n").encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in files.items():
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return True


def remove_other_versions(folder: Path) -> None:
    """Remove the wheels that are there in another version than the one that is listed above."""
    listed = dict(name.lower().replace("-", "_").split("==") for name in (*PURE, *BUILT))
    for wheel in folder.glob("*.whl"):
        name, version = wheel.name.lower().split("-")[:2]
        if listed.get(name, version) != version:
            wheel.unlink()


def ignored_by_git(folder: Path, root: Path = ROOT) -> None:
    """Note the folder in .git/info/exclude, where it lies inside the repository."""
    if not folder.is_relative_to(root) or not (root / ".git").is_dir():
        return
    exclude, line = root / ".git" / "info" / "exclude", f"/{folder.relative_to(root)}/"
    exclude.parent.mkdir(exist_ok=True)
    if not exclude.is_file() or line not in exclude.read_text().splitlines():
        with exclude.open("a") as file:
            file.write(f"{line}\n")


def main() -> None:
    """Download, build, correct, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / ".whl", help="folder of the wheels")
    parser.add_argument("--python", default=sys.executable, help="a Python 3.12, to build with")
    parser.add_argument("--without", nargs="*", default=[], help="packages to leave out")
    args = parser.parse_args()
    asked = [args.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if version != "3.12":
        sys.exit(f"error: {args.python} is {f'Python {version}' if version else 'no Python'}; "
                 "give --python a Python 3.12.")  # fmt: skip
    folder = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ignored_by_git(folder)
    remove_other_versions(folder)
    there = {wheel.name.split("-")[0].lower() for wheel in folder.glob("*.whl")}
    there |= {name.lower().replace("-", "_") for name in args.without}

    def missing(names: tuple[str, ...]) -> list[str]:
        return [n for n in names if n.split("==")[0].lower().replace("-", "_") not in there]

    if missing(PURE):
        download(missing(PURE), folder, args.python)
    if missing(BUILT):
        build(missing(BUILT), folder, args.python)
    for wheel in sorted(folder.glob("*.whl")):
        shown = "  (changed: 3.12 will do)" if allow_python_312(wheel) else ""
        print(f"{wheel.stat().st_size / 2**20:8.2f} MiB  {wheel.name}{shown}")
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    print(f"{size / 2**20:8.2f} MiB in {folder}; at most {LIMIT / 2**20:.0f} MiB")
    if size > LIMIT:
        sys.exit("error: too much. Leave something out, for instance --without av.")


if __name__ == "__main__":
    run_script(main)
