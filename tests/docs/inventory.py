"""`python -m tests.docs.inventory`: every public name is in the built site's index of names.

The index is `objects.inv`, by which other projects link to the reference.
"""

import importlib
import sys
import zlib

from tests.workspace.repository import PACKAGES, ROOT

INVENTORY = ROOT / "docs" / "site" / "objects.inv"


def main() -> int:
    data = INVENTORY.read_bytes()
    for _ in range(4):  # the head, in plain text
        _, data = data.split(b"\n", 1)
    listed = {line.split()[0] for line in zlib.decompress(data).decode().splitlines()}
    modules = [module for package in PACKAGES for module in package.public_modules]
    names = {
        f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__
    }
    missing = sorted(names - listed)
    for name in missing:
        print(f"{name} is not in {INVENTORY.name}: has a page of the reference `::: {name}`?")
    print(f"{len(names) - len(missing)} of {len(names)} public names are in the reference")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
