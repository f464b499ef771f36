"""Which way imports point."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .repository import PACKAGES, Package

MAY_IMPORT = {
    "chrono_core": {"anyio", "chrono_core", "pytest", "trio"},  # pytest: its plugin alone
    "chrono_recipes": {"anyio", "chrono_core", "chrono_recipes"},
    "chrono_zmq": {"anyio", "chrono_core", "chrono_zmq", "msgspec", "zmq"},
}

every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def module_name(path: Path, package: Package) -> str:
    parts = path.relative_to(package.folder / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def at_import(nodes: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "handlers", "finalbody"):
                yield from at_import(getattr(node, field, []))


def imported(node: ast.Import | ast.ImportFrom, importer: str, is_package: bool) -> list[str]:
    """The full names that a statement imports, modules and what is in them alike."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = importer.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, base] if base else parts)
    return [f"{base}.{alias.name}" for alias in node.names]


@every_package
def test_imports_have_no_cycle(package: Package) -> None:
    """Of two modules, at most one knows the other."""
    modules = {module_name(path, package): path for path in package.modules}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        needs = graph.setdefault(name, set())
        for node in at_import(ast.parse(path.read_text(encoding="utf-8")).body):
            for target in imported(node, name, path.name == "__init__.py"):
                needs.add(target if target in modules else target.rpartition(".")[0])
        needs &= modules.keys() - {name}
    TopologicalSorter(graph).prepare()


@every_package
def test_imports_reach_declared_dependencies_only(package: Package) -> None:
    """A package imports itself and what it depends on; core knows nothing of the others."""
    allowed = MAY_IMPORT[package.import_name]
    for path in package.modules:
        name = module_name(path, package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for target in imported(node, name, path.name == "__init__.py"):
                    top = target.partition(".")[0]
                    assert top in allowed or top in sys.stdlib_module_names, f"{path}: {target}"
