import ast
import importlib
import inspect
import itertools
import re
from types import ModuleType

import pytest

from .repository import PACKAGES, ROOT

REFERENCE = {
    "chrono_core": ("core.md", "simulation.md"),
    "chrono_core.testing": ("testing.md",),
    "chrono_core.lowlevel": ("lowlevel.md",),
    "chrono_recipes": ("recipes.md",),
    "chrono_zmq": ("zmq.md",),
}

every_module = pytest.mark.parametrize("name", REFERENCE)


def public(name: str) -> tuple[ModuleType, list[str]]:
    module = importlib.import_module(name)
    for entry in module.__all__:
        getattr(module, entry)  # some are imported when they are first asked for
    return module, module.__all__


def entries() -> list[tuple[str, str, str]]:
    """What any page of the documentation renders from a docstring: page, module and name."""
    found = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for directive in re.findall(r"^ *:::(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            module, _, entry = directive.strip().rpartition(".")
            found.append((page.relative_to(ROOT / "docs" / "reference").as_posix(), module, entry))
    return found


def test_public_modules_are_documented() -> None:
    """Each module that is not private has a reference, and no other has."""
    assert sorted(REFERENCE) == sorted(
        module for package in PACKAGES for module in package.public_modules
    )
    assert {module for _, module, _ in entries()} == set(REFERENCE)


@every_module
def test_public_names_are_documented(name: str) -> None:
    """There is one entry for each name in `__all__`, on a page of its module, and no other."""
    found = [(page, entry) for page, module, entry in entries() if module == name]
    assert sorted(entry for _, entry in found) == sorted(public(name)[1])
    assert {page for page, _ in found} == set(REFERENCE[name])


@every_module
def test_public_names_exist_once(name: str) -> None:
    """`__all__` names what is there, and each name once."""
    module, names = public(name)
    assert len(names) == len(set(names))
    assert [missing for missing in names if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", [name for name in REFERENCE if "." not in name])
def test_packages_show_nothing_else(name: str) -> None:
    """What a package holds without an underscore is public, or a module."""
    module, names = public(name)
    shown = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and not inspect.ismodule(value) and key != "annotations"
    }
    assert shown == {key for key in names if not key.startswith("_")}


def described_aliases(name: str) -> dict[str, str]:
    """What stands below the assignments at the top of a package's modules."""
    package = next(found for found in PACKAGES if name in found.public_modules)
    texts = {}
    for path in package.modules:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for pair in itertools.pairwise(body):
            match pair:
                case ast.Assign([ast.Name(alias)]), ast.Expr(ast.Constant(str(text))):
                    texts[alias] = text
    return texts


@every_module
def test_public_names_carry_docstrings(name: str) -> None:
    """Every class, function, method and alias that users see says what it does."""
    module, names = public(name)
    silent = []
    for entry in names:
        value = getattr(module, entry)
        if inspect.isclass(value) or inspect.isroutine(value):
            text = value.__doc__
        else:
            text = described_aliases(name).get(entry)
        if not text:
            silent.append(entry)
        if inspect.isclass(value):
            silent += [
                f"{entry}.{member}"
                for member, attribute in vars(value).items()
                if not member.startswith("_")
                and (inspect.isroutine(attribute) or isinstance(attribute, property))
                and not inspect.getdoc(getattr(value, member))
            ]
    assert silent == []
