"""Check that a release tag names a package and the version that the package has.

Prints `package=NAME`, for the release workflow.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
    if f"\n## {version} (unreleased)\n" in (folder / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.exit(f"tag {tag!r}: CHANGELOG.md still says that {version} is unreleased")
    return str(package)


if __name__ == "__main__":
    print(f"package={main(*sys.argv[1:])}")
