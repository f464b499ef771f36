"""Check that a release tag names a package and its version, and that what it releases is on main.

Prints `package=NAME`, for the release workflow.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAIN = "refs/remotes/origin/main"


def main(tag: str) -> str:
    """The package that a tag releases, or the reason why it does not."""
    match = re.fullmatch(r"(chrono-(?:core|recipes|zmq))-v(\d\S*)", tag)
    if match is None:
        sys.exit(f"tag {tag!r} is not of the form chrono-core-v1.2.3")
    package, version = match.groups()
    folder = ROOT / "packages" / package
    with (folder / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["version"]
    if version != declared:
        sys.exit(f"tag {tag!r} releases {version}, but pyproject.toml says {declared}")
    changelog = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        sys.exit(f"tag {tag!r}: CHANGELOG.md has no section for {version} with a date")
    git = ["git", "merge-base", "--is-ancestor", "HEAD", MAIN]
    if subprocess.run(git, cwd=ROOT, check=False).returncode != 0:
        sys.exit(f"tag {tag!r} releases a commit that is not on main")
    return str(package)


if __name__ == "__main__":
    print(f"package={main(*sys.argv[1:])}")
