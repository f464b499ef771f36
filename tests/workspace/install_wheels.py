"""Install the built wheels into fresh environments, and use them there.

Run by `hatch run wheels:install`, after `dist/` was built. Each package is installed alone, as its
README says, and all are installed together; what chrono packages need of each other comes from
`dist/`.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.docs.programs import programs, trouble

from .repository import PACKAGES, ROOT, Package

DIST = ROOT / "dist"

# What an environment holds, besides the package itself and what anyio needs on some Pythons.
ANYIO = {"anyio", "idna"}
NEEDS = {
    "chrono-core": ANYIO,
    "chrono-recipes": ANYIO | {"chrono-core"},
    "chrono-zmq": ANYIO | {"chrono-core", "msgspec", "pyzmq"},
}
SOMETIMES = {"typing-extensions"}

METADATA = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
SOURCES = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def main() -> None:
    for package in PACKAGES:
        check_wheel(package)
        check_sdist(package)
    for package in PACKAGES:
        use([package])
    use(PACKAGES)


def stem(package: Package) -> str:
    """How the names of a package's files in `dist/` begin."""
    return f"{package.import_name}-{package.project['version']}"


def sources(package: Package) -> set[str]:
    """The files that the package is made of."""
    source = package.folder / "src"
    files = (path for path in (source / package.import_name).rglob("*") if path.is_file())
    names = {path.relative_to(source).as_posix() for path in files}
    return {name for name in names if not name.endswith(".pyc")}


def check_wheel(package: Package) -> None:
    """The wheel holds the package, its licence and its metadata, and nothing else."""
    folder = f"{stem(package)}.dist-info"
    metadata = METADATA | ({"entry_points.txt"} if "entry-points" in package.project else set())
    expected = sources(package) | {f"{folder}/{name}" for name in metadata}
    with zipfile.ZipFile(DIST / f"{stem(package)}-py3-none-any.whl") as wheel:
        found = set(wheel.namelist())
    check_files(f"the wheel of {package.name}", found, expected)
    if f"{package.import_name}/py.typed" not in found:
        sys.exit(f"the wheel of {package.name} has no py.typed")


def check_sdist(package: Package) -> None:
    """The sdist holds what the wheel is made of, and what its readers look for."""
    expected = {f"src/{name}" for name in sources(package)} | SOURCES
    with tarfile.open(DIST / f"{stem(package)}.tar.gz") as sdist:
        names = [member.name for member in sdist.getmembers() if not member.isdir()]
    found = {name.removeprefix(f"{stem(package)}/") for name in names}
    check_files(f"the sdist of {package.name}", found, expected)


def check_files(what: str, found: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - found):
        sys.exit(f"{what} lacks {', '.join(missing)}")
    if needless := sorted(found - expected):
        sys.exit(f"{what} holds {', '.join(needless)}, which it should not")
    print(f"{what}: {len(found)} files")


def use(packages: list[Package]) -> None:
    """Install packages into a new environment, and run the programs of their READMEs there."""
    names = [package.name for package in packages]
    needs = set().union(*(NEEDS[name] for name in names)) | set(names)
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python")
        call("uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder)
        constraints = Path(folder, "constraints.txt")
        pins = [f"{package.name}=={package.project['version']}\n" for package in PACKAGES]
        constraints.write_text("".join(pins))
        install = ["uv", "pip", "install", "--quiet", "--python", os.fspath(python)]
        refresh = [f"--refresh-package={package.name}" for package in PACKAGES]
        where = ["--find-links", os.fspath(DIST), "--constraints", os.fspath(constraints)]
        call(*install, *refresh, *where, *names)
        check_installed(" and ".join(names), python, needs)
        pages = [package.folder / "README.md" for package in packages]
        if len(packages) > 1:
            pages.append(ROOT / "README.md")
        for page in pages:
            check_programs(page, python, Path(folder))


def check_installed(what: str, python: Path, needs: set[str]) -> None:
    """What is installed is what is promised, and what is ours is what was built."""
    listed = call("uv", "pip", "list", "--quiet", "--python", os.fspath(python), "--format", "json")
    found = {one["name"].replace("_", "-"): one["version"] for one in json.loads(listed)}
    print(f"{what}:", ", ".join(f"{name} {found[name]}" for name in sorted(found)))
    if set(found) - SOMETIMES != needs:
        sys.exit(f"{what} should install {', '.join(sorted(needs))}")
    for package in PACKAGES:
        if package.name in found:
            where = f"import {package.import_name} as it; print(it.__path__[0])"
            place = Path(call(os.fspath(python), "-I", "-W", "error", "-c", where).strip())
            with zipfile.ZipFile(DIST / f"{stem(package)}-py3-none-any.whl") as wheel:
                for name in sources(package):
                    if (place.parent / name).read_bytes() != wheel.read(name):
                        sys.exit(f"{package.name} was not installed from {DIST.name}/: {name}")


def check_programs(page: Path, python: Path, folder: Path) -> None:
    """The programs of a page run, and print what the page says."""
    for program in programs(page):
        if found := trouble(program, python, folder):
            sys.exit(found)
        print(f"{program.where} runs")


def call(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


if __name__ == "__main__":
    main()
