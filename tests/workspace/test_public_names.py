import importlib
import inspect
import re
from types import ModuleType

import pytest

from .repository import ROOT

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


@every_module
def test_public_names_are_documented(name: str) -> None:
    """The reference has one entry for each name in `__all__`, and no other."""
    folder = ROOT / "docs" / "reference"
    page = "\n".join((folder / file).read_text(encoding="utf-8") for file in REFERENCE[name])
    entries = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page, re.MULTILINE)
    assert sorted(entries) == sorted(public(name)[1])


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


@every_module
def test_public_names_carry_docstrings(name: str) -> None:
    """Every class, function and method that users see says what it does."""
    module, names = public(name)
    silent = []
    for entry in names:
        value = getattr(module, entry)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not inspect.getdoc(value):
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
