"""What a reader may rely on in every file: sizes, rooms, names, and that nothing of this machine is in it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests import readme_tables

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
TRACKED = LISTED.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in ROOT.glob("[!.]*/**/*.*")]
FILES = [ROOT / name for name in TRACKED if (ROOT / name).is_file()]
SOURCES = [path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "controller")]
PYTHON = [path for path in FILES if path.suffix == ".py"]
TREES = {path: ast.parse(path.read_text(), str(path)) for path in PYTHON}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
LOCKS = sorted(ROOT.glob("requirements*.lock"))

# house.md, "What a line of code may touch": what a room may never import.
IO = {"aiohttp", "asyncio", "kubernetes_asyncio", "logging", "ovs", "prometheus_client", "structlog", "subprocess"}
CHANCE = {"datetime", "os", "random", "secrets", "ssl", "threading", "time", "uuid"}
BANNED = {
    "core": IO | CHANCE,
    "machines": IO | CHANCE | {"socket"},
    "ports.py": IO | CHANCE | {"socket"},
    "reconcilers": {"aiohttp", "kubernetes_asyncio", "ovs", "socket", "threading", "random", "time", "controller.wire"},
}
# Written in two parts, so that this file does not hold what it looks for.
MARKERS = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b", "HA" + "CK")))
MACHINE = re.compile("|".join((r"(?<![\w.$~-])/ho" + "me/", r"(?<![\w.$~-])/ro" + "ot/", r"(?<![\w./])/wo" + r"rk/")))
INDEXES = re.compile(
    "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "artifact" + "ory", "--(extra-)?index" + "-url"))
)


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def size(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def imports(tree: ast.AST) -> set[str]:
    found = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    return found | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module, and what can be reached in it without passing anything private."""
    yield name, node
    for child in () if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
            yield from public(child, child.name)


def room(path: Path) -> str:
    return path.relative_to(ROOT / "controller").parts[0]


def test_modules_stay_small_enough_to_be_read() -> None:
    """None over 500 lines, nine of ten at most 350, half of them far less."""
    lines = [len(path.read_text().splitlines()) for path in SOURCES]

    assert max(lines) <= 500
    assert quantiles(lines, n=10)[-1] <= 350
    assert median(lines) <= 180


def test_functions_stay_small_enough_to_be_seen() -> None:
    """None over 60 lines, nine of ten at most 30; a story in the tests may be a little longer."""
    sizes = [size(node) for path in SOURCES for node in functions(TREES[path])]
    long = [f"{path.name}:{node.name}" for path in PYTHON for node in functions(TREES[path]) if size(node) > 90]

    assert long == []
    assert max(sizes) <= 60
    assert quantiles(sizes, n=10)[-1] <= 30


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) in {"core", "machines"}], ids=lambda p: p.name)
def test_core_and_machines_never_wait(path: Path) -> None:
    """No coroutine and no await: between a View and its Decision nothing can happen."""
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert not [node for node in ast.walk(TREES[path]) if isinstance(node, waits)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    """House.md's table; inet_pton and inet_ntop are pure functions with a wide name."""
    banned = BANNED.get(room(path), set())
    found = {name for name in imports(TREES[path]) for bad in banned if name == bad or name.startswith(f"{bad}.")}
    if room(path) == "reconcilers":
        found -= {"datetime"}

    assert not found


def test_names_say_what_a_thing_is() -> None:
    """No utils.py, no Manager."""
    assert not [p.name for p in FILES if p.stem in {"utils", "util", "helpers", "common", "misc"} and p.suffix == ".py"]
    classes = [node.name for path in PYTHON for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if name.endswith(("Manager", "Helper", "Util", "Utils"))]


def test_nothing_is_printed() -> None:
    """Logs are for what runs; only wrong settings are said on standard error, before logs are set up."""
    calls = [
        f"{path.relative_to(ROOT)}"
        for path in SOURCES
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert calls == ["controller/process/main.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_public_says_what_it_is(path: Path) -> None:
    """A docstring whose first line is a sentence; private names and dunders may speak for themselves."""
    for name, node in public(TREES[path], path.stem):
        first = (ast.get_docstring(node) or "").partition("\n\n")[0].strip()
        assert first.endswith((".", "?", "!")), f"{path.name}:{name}: {first!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_of_the_makers_machine_is_left(path: Path) -> None:
    """No marker for later, no absolute path, no address of a package index."""
    text = path.read_text(errors="replace")
    for pattern in (MARKERS, MACHINE, INDEXES):
        found = pattern.search(text)
        assert found is None, f"{found} in {path}"
    assert path.stat().st_size < 400_000, "a file of that size does not belong here"


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_lock_files_pin_by_hash(path: Path) -> None:
    """Every requirement with a version and a hash, from wherever it is fetched."""
    wanted = path.read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in wanted if line.strip() and not line.lstrip().startswith("#")]

    assert pins
    assert all(re.match(r"[a-z0-9._-]+==\S+.*--hash=sha256:[0-9a-f]{64}", line) for line in pins)


def test_the_readmes_tables_are_those_of_the_code() -> None:
    """`python -m tests.readme_tables` writes them anew."""
    text = readme_tables.README.read_text()

    assert readme_tables.rewritten(text) == text
