"""Imports go one way: the table in docs/design.md is the rule, the import graph of the code is the fact."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"featx": ROOT / "featx", "featx_extractors": ROOT / "extractors"}


def layers() -> dict[str, int]:
    """Module of featx -> its layer, from the table."""
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    return {name.strip(): int(level) for level, names in rows for name in names.split(",")}


def modules() -> dict[str, Path]:
    """Every module of both packages by dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = modules()


def imports(path: Path, *, everywhere: bool) -> set[str]:
    """Modules of ours that a file imports; at run time only at its top level unless ``everywhere``."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    names = set()
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def place(module: str) -> str:
    """``featx.store.base`` -> ``store``: what the table calls it."""
    return module.split(".")[1] if "." in module else "featx"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("featx.")])
def test_a_module_of_featx_imports_only_from_lower_layers(module: str) -> None:
    table = layers()
    for other in imports(MODULES[module], everywhere=True):
        if place(other) in (place(module), "featx"):
            continue
        assert table[place(other)] < table[place(module)], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] == "featx"])
def test_featx_never_imports_an_extractor(module: str) -> None:
    found = imports(MODULES[module], everywhere=True)
    assert not {name for name in found if name.startswith("featx_extractors")}


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] == "featx_extractors"])
def test_an_extractor_imports_only_the_lower_layers_of_featx(module: str) -> None:
    table = layers()
    for other in imports(MODULES[module], everywhere=True):
        if other.startswith("featx.") and module != "featx_extractors.commands":  # its door to the command line
            assert table[place(other)] <= table["extractor"], f"{module} imports {other}"


def test_there_is_no_circle_among_all_modules() -> None:
    graph = {m: {i for i in imports(path, everywhere=False) if i != m} for m, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"import circle: {' -> '.join([*above, module])}"
        if module not in done:
            for other in sorted(graph.get(module, ())):
                # A package's own __init__ re-exporting a module is not a dependency of that module on it.
                if not module.startswith(f"{other}."):
                    visit(other, (*above, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_every_module_has_a_place_in_the_table() -> None:
    table = layers()
    missing = {place(m) for m in MODULES if m.startswith("featx.")} - set(table)
    assert not missing, f"docs/design.md gives no layer to {sorted(missing)}"
