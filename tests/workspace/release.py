"""Release a package: write its version, date its changelog, commit, and set the tag.

Run by `hatch run release:make PACKAGE VERSION`. Nothing is pushed, and nothing is changed where
something does not hold.
"""

import argparse
import datetime
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from .repository import ROOT, Package

NAMES = ("chrono-core", "chrono-recipes", "chrono-zmq")

UNRELEASED = re.compile(r"^## Unreleased\n(?P<changes>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
RELEASED = re.compile(r"^## (?P<version>\S+) \(\d{4}-\d{2}-\d{2}\)$", re.MULTILINE)
VERSION = re.compile(r'^version = "(?P<version>[^"]+)"$', re.MULTILINE)


class Refusal(Exception):
    """Why nothing was released."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    parser = argparse.ArgumentParser(prog="hatch run release:make", description=__doc__)
    parser.add_argument("package", choices=NAMES)
    parser.add_argument("version", help="its new version, such as 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args(arguments)
    package = Package(root / "packages" / options.package)
    try:
        release(package, options.version, dry_run=options.dry_run)
    except Refusal as reason:
        sys.exit(f"{reason}.")


def release(package: Package, text: str, *, dry_run: bool) -> None:
    tag = f"{package.name}-v{text}"
    check_tree(package)
    version = new_version(package, text)
    if git(package.folder, "tag", "--list", tag):
        raise Refusal(f"the tag {tag} exists already")
    check_siblings(package, version)
    files = release_files(package, text)
    push = f"git push --atomic origin main {tag}"
    if dry_run:
        for path in files:
            print(f"would write {path.relative_to(package.folder.parents[1]).as_posix()}")
        print(f"would commit, and set the tag {tag}; then: {push}")
        return
    write(package, files, f"Release {package.name} {text}", tag)
    print(f"{tag} is set, and nothing was pushed. To publish it:\n\n    {push}")


def check_tree(package: Package) -> None:
    """Only what everybody can see is released."""
    branch = git(package.folder, "branch", "--show-current")
    if branch != "main":
        raise Refusal(f"releases are made on main, and this is {branch or 'no branch'}")
    if git(package.folder, "status", "--porcelain"):
        raise Refusal("there are changes that are not committed: see git status")


def new_version(package: Package, text: str) -> Version:
    """The version, where it may come next."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise Refusal(f"{text!r} is no version such as 0.2.0") from None
    if str(version) != text or version.local:
        raise Refusal(f"write the version {text!r} as {version.public}")
    declared = declared_version(package)
    released = [Version(found["version"]) for found in RELEASED.finditer(changelog(package))]
    if version < declared or any(version <= one for one in released):
        last = max([declared, *released])
        raise Refusal(f"{package.name} is at {last} already, and {version} is not newer")
    return version


def check_siblings(package: Package, version: Version) -> None:
    """What chrono packages say of each other stays true.

    The tests run with the chrono-core of the tree: a package that depends on it may be released
    where that is the very chrono-core that is released, and the least that it asks for.
    """
    core = Package(package.folder.with_name("chrono-core"))
    if package.name == core.name:
        for name in NAMES[1:]:
            needed = need_of_core(Package(package.folder.with_name(name)))
            if not needed.specifier.contains(version, prereleases=True):
                raise Refusal(
                    f"{name} depends on {needed}, which {version} does not satisfy: change that "
                    "first"
                )
        return
    tag = f"{core.name}-v{core.project['version']}"
    if not git(package.folder, "tag", "--list", tag):
        raise Refusal(
            f"{package.name} was tested with a {core.name} for which there is no tag "
            f"{tag}: release that first"
        )
    if git(core.folder, "diff", "--name-only", tag, "--", "src", "pyproject.toml"):
        raise Refusal(
            f"{package.name} was tested with a {core.name} that has changed since {tag}: "
            "release that first"
        )
    needed = need_of_core(package)
    floors = [Version(one.version) for one in needed.specifier if one.operator == ">="]
    if floors != [declared_version(core)]:
        raise Refusal(
            f"{package.name} was tested with {core.name} {core.project['version']} and depends on "
            f"{needed}: change that first"
        )


def need_of_core(package: Package) -> Requirement:
    dependencies = package.project["dependencies"]
    assert isinstance(dependencies, list)
    found = [Requirement(one) for one in dependencies]
    return next(one for one in found if one.name == "chrono-core")


def release_files(package: Package, text: str) -> dict[Path, str]:
    """The files to write, and what will be in them."""
    log = changelog(package)
    section = UNRELEASED.search(log)
    if section is None:
        raise Refusal(f"the changelog of {package.name} has no section '## Unreleased'")
    if not section["changes"].strip():
        raise Refusal(f"the changelog of {package.name} says nothing under '## Unreleased'")
    today = datetime.datetime.now(datetime.UTC).date()
    dated = log.replace("## Unreleased\n", f"## {text} ({today})\n", 1)
    project = package.folder / "pyproject.toml"
    content = project.read_text(encoding="utf-8")
    return {
        project: VERSION.sub(f'version = "{text}"', content, count=1),
        package.folder / "CHANGELOG.md": dated,
    }


def write(package: Package, files: Mapping[Path, str], message: str, tag: str) -> None:
    """Write the files, commit them and set the tag, or leave everything as it was."""
    before = git(package.folder, "rev-parse", "HEAD")
    try:
        for path, content in files.items():
            path.write_text(content, encoding="utf-8")
        git(package.folder, "commit", "--all", "--message", message)
        git(package.folder, "tag", "--annotate", tag, "--message", message)
    except BaseException:
        git(package.folder, "reset", "--quiet", "--hard", before)
        raise


def declared_version(package: Package) -> Version:
    return Version(str(package.project["version"]))


def changelog(package: Package) -> str:
    return (package.folder / "CHANGELOG.md").read_text(encoding="utf-8")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()).rstrip(".")
        raise Refusal(f"git {arguments[0]} fails: {said}")
    return done.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
