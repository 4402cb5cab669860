"""The house rules: imports one way, small files, everything named, configured and documented."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mario_dreamer.config.compose import compose_default

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CONFIGS = ROOT / "mario_dreamer", ROOT / "configs"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports from its own row or from a row above it.
LAYERS = [
    {"keys", "checks", "precision"},
    {"distributions", "envs", "tracking"},
    {"networks"},
    {"losses", "replay"},
    {"agent"},
    {"training"},
    {"exporting", "reporting"},
    {"config"},
    {"viewer"},
    {"commands"},
    {"cli", "__main__"},
]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(module: str) -> int | None:
    part = module.split(".")[1] if "." in module else None
    found = [row for row, parts in enumerate(LAYERS) if part in parts]
    return found[0] if found else None


@functools.cache
def imports(path: Path, everywhere: bool = False) -> set[str]:
    """Modules imported at the top of a file, or anywhere in it; not those for type checkers."""
    tree = tree_of(path)
    nodes = list(ast.walk(tree)) if everywhere else list(tree.body)
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            hidden = set(map(id, ast.walk(node)))
            nodes = [other for other in nodes if id(other) not in hidden]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_every_module_has_its_place_in_a_layer() -> None:
    homeless = [name(path) for path in FILES if "." in name(path) and layer(name(path)) is None]
    assert homeless == []


def test_imports_point_one_way() -> None:
    wrong = []
    for path in FILES:
        own = layer(name(path))
        for module in imports(path, everywhere=True):
            other = layer(module) if module.startswith("mario_dreamer.") else None
            if own is not None and other is not None and other > own:
                wrong.append(f"{name(path)} imports {module}")
    assert wrong == []


def test_no_import_goes_in_a_circle() -> None:
    modules = {name(path): path for path in FILES}
    edges = {
        module: {o for o in imports(path, everywhere=True) if o in modules and o != module}
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for other in edges[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in edges:
        visit(module, ())


@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        (("hydra", "omegaconf"), {"config", "commands"}),
        (("mlflow",), {"tracking", "exporting"}),
        (("cv2", "torchvision", "stable_baselines3"), set()),
    ],
)
def test_libraries_stay_where_they_belong(libraries: tuple[str, ...], allowed: set[str]) -> None:
    guests = [
        f"{name(path)}: {module}"
        for path in FILES
        for module in imports(path, everywhere=True)
        if module.split(".")[0] in libraries and name(path).split(".")[1] not in allowed
    ]
    assert guests == []


def test_ruff_finds_nothing() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_no_file_is_longer_than_300_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("mario_dreamer", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_no_conftest_is_found_before_the_one_of_all_tests() -> None:
    """With --doctest-modules pytest would stop: it imports each as `conftest`, in this order."""
    folders = [path.parent.name for path in (ROOT / "tests").glob("*/conftest.py")]
    assert [folder for folder in folders if folder < "conftest.py"] == []


def functions(path: Path) -> list[ast.FunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


def test_no_function_is_longer_than_80_lines() -> None:
    long = {
        f"{name(path)}.{node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in functions(path)
        if node.end_lineno - node.lineno + 1 > 80
    }
    assert long == {}


def public(body: list[ast.stmt], prefix: str) -> list[tuple[str, bool]]:
    """Public classes, functions and methods, each with whether it has a docstring."""
    found = []
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_"):
            continue
        found.append((f"{prefix}.{node.name}", ast.get_docstring(node) is not None))
        if isinstance(node, ast.ClassDef):
            found += public(node.body, f"{prefix}.{node.name}")
    return found


def test_modules_and_public_names_have_docstrings() -> None:
    found = [(name(path), ast.get_docstring(tree_of(path)) is not None)
             for path in FILES if path.read_text().strip()]  # fmt: skip
    for path in FILES:
        found += public(tree_of(path).body, name(path))
    silent = [what for what, documented in found if not documented]
    assert len(silent) <= 0.03 * len(found), silent


def test_every_public_argument_has_a_type() -> None:
    untyped = []
    for path in FILES:
        for node in functions(path):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None]
            bare = [argument for argument in bare if argument not in ("self", "cls")]
            if bare and not node.name.startswith("_"):
                untyped.append(f"{name(path)}.{node.name}({', '.join(bare)})")
    assert untyped == []


def bundles() -> list[list[str]]:
    """Words that choose every file of every group once: of all groups at a time, one of each.

    The experiments are composed in config/test_differences.py; hydra's own groups need an extra.
    """
    groups: dict[str, list[str]] = {}
    for path in sorted(CONFIGS.glob("*/**/*.yaml")):
        group = path.parent.relative_to(CONFIGS).as_posix()
        slots = ("reward", "cont", "critic") if group == "head" else ()
        for slot in [f"{group}@{name}" for name in slots] or [group]:
            groups.setdefault(slot, []).append(f"{slot}={path.stem}")
    kept = [words for slot, words in groups.items() if not slot.startswith(("experiment", "hydra"))]
    return [[word for word in words if word] for words in zip_longest(*kept)]


@pytest.mark.parametrize("words", bundles())
def test_every_choice_composes_and_resolves(words: list[str]) -> None:
    OmegaConf.to_container(compose_default(words), resolve=True, throw_on_missing=True)


def test_every_number_of_train_yaml_is_read_by_somebody() -> None:
    cfg = OmegaConf.load(CONFIGS / "train.yaml")
    code = "\n".join(path.read_text() for path in FILES)
    texts = "\n".join(path.read_text() for path in CONFIGS.rglob("*.yaml"))
    dead = [
        key
        for key in cfg
        if key not in ("defaults", "hydra", "critic")
        and not re.search(rf'cfg\.{key}\b|cfg\.get\("{key}"', code)
        and f"${{{key}}}" not in texts
    ]
    assert dead == []


def test_every_setting_of_sizes_and_collectors_is_read() -> None:
    code = "\n".join(path.read_text() for path in FILES)
    texts = "\n".join(path.read_text() for path in CONFIGS.rglob("*.yaml"))
    for group in ("size", "collector"):
        for path in (CONFIGS / group).glob("*.yaml"):
            for key in OmegaConf.load(path).keys() - {"defaults"}:
                read = f"cfg.{group}.{key}" in code or f"${{{group}.{key}}}" in texts
                assert read, f"{path.name}: nobody reads {group}.{key}"
