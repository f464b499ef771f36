import re

import pytest

from .repository import PACKAGES, ROOT, Package, files, texts

TOP_LEVEL = {
    ".ci",
    ".coveragerc",
    ".github",
    ".gitignore",
    ".mypy.ini",
    ".ruff.toml",
    "LICENSE",
    "README.md",
    "docs",
    "hatch.toml",
    "packages",
    "tests",
}

every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def test_top_level_holds_what_it_should_and_no_more() -> None:
    """Every entry at the top was put there on purpose."""
    assert {path.parts[0] for path in files()} == TOP_LEVEL


def test_packages_folder_holds_packages_only() -> None:
    """Hatch takes each folder in `packages/` for a package."""
    assert {path.parts[1] for path in files() if path.parts[0] == "packages"} == {
        package.name for package in PACKAGES
    }


@every_package
def test_package_is_complete(package: Package) -> None:
    """Each package carries what its users look for."""
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"):
        assert (package.folder / name).is_file(), name
    assert (package.folder / "src" / package.import_name / "py.typed").is_file()


@every_package
def test_licence_is_the_one_of_the_repository(package: Package) -> None:
    """The copies of the licence are real files, and equal."""
    copy = package.folder / "LICENSE"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (ROOT / "LICENSE").read_bytes()


@every_package
def test_version_is_static_and_the_newest_in_the_changelog(package: Package) -> None:
    """The version stands in pyproject.toml; the changelog begins with it, or with what is new."""
    assert "dynamic" not in package.project
    changelog = (package.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    if headings[0] == "Unreleased":
        headings.pop(0)
    newest = re.compile(re.escape(str(package.project["version"])) + r" \(\d{4}-\d{2}-\d{2}\)")
    assert all(newest.fullmatch(heading) for heading in headings[:1])


def test_core_depends_on_anyio_and_nothing_else() -> None:
    """The promise that chrono-core makes first."""
    dependencies = PACKAGES[0].project["dependencies"]
    assert isinstance(dependencies, list)
    assert [re.split(r"[^\w-]", dependency)[0] for dependency in dependencies] == ["anyio"]
    assert "optional-dependencies" not in PACKAGES[0].project


def test_every_test_folder_is_a_package() -> None:
    """Two test files may share a name, and none hides an installed module."""
    for path in files():
        if path.parts[0] == "tests" and path.suffix == ".py":
            assert (ROOT / path.parent / "__init__.py").is_file(), path


def test_nothing_names_a_package_index() -> None:
    """Whoever installs decides where from."""
    hosts = [".".join(name) for name in (("pypi", "org"), ("pythonhosted", "org"))]
    hosts += [".".join(name) for name in (("npmjs", "com"), ("npmjs", "org"))]
    named = [(path, host) for path, text in texts().items() for host in hosts if host in text]
    assert named == []


def test_nothing_names_a_path_of_one_machine() -> None:
    """The repository works wherever it is checked out."""
    tops = "|".join(("work", "opt", "home", "root", "Users"))
    pattern = re.compile(r"(?<![\w.})\]*-])/(?:" + tops + ")/")
    named = [(path, match[0]) for path, text in texts().items() for match in pattern.finditer(text)]
    assert named == []
