"""Fill what README.md says twice: the tree, from the files' own first lines, and the metrics.

    python benchmarks/readme.py            write
    python benchmarks/readme.py --check    exit 1 when README.md is behind
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FOLDERS = {
    "configs": "one folder = one choice; `name=file` on the command line swaps it",
    "benchmarks": "speed and learning: scripts, raw results, figures",
    "tests": "one test file per module; `-m slow` runs the long ones",
}


def tree() -> str:
    """List every module of the package with the first sentence of its docstring."""
    lines = ["```"]
    for path in sorted((ROOT / "mario_dreamer").rglob("*.py"), key=_order):
        clause = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        inside = path.relative_to(ROOT / "mario_dreamer")
        if path.name == "__init__.py":
            name = f"mario_dreamer/{'' if inside.parent == Path('.') else f'{inside.parent}/'}"
        else:
            name = "  " * len(inside.parts) + path.name
        lines.append(f"{name:<28}  {clause}".rstrip())
    lines += [f"{folder + '/':<28}  {clause}" for folder, clause in FOLDERS.items()]
    return "\n".join([*lines, "```"])


def _order(path: Path) -> tuple[str, ...]:
    """A folder's own line first, then its files, then its folders."""
    inside = path.relative_to(ROOT)
    folders, name = inside.parts[:-1], inside.name
    return (*(f"1{folder}" for folder in folders), "0" if name == "__init__.py" else f"0{name}")


def metrics() -> str:
    """Return the table of every metric."""
    from mario_dreamer.tracking.metrics import markdown_table

    return markdown_table().strip()


def replace_section(text: str, name: str, content: str) -> str:
    """Put `content` between the markers `<!-- name:begin -->` and `<!-- name:end -->`.

    Raises:
        ValueError: when the markers are not there.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"{README} has no markers {begin} and {end}; put them back.")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"


def fill(text: str) -> str:
    """Return README.md's text with its generated sections up to date."""
    return replace_section(replace_section(text, "tree", tree()), "metrics", metrics())


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = README.read_text()
    filled = fill(text)
    if parser.parse_args().check:
        sys.exit(0 if filled == text else "README.md is behind: run python benchmarks/readme.py")
    README.write_text(filled)


if __name__ == "__main__":
    main()
