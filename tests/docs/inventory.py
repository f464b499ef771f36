"""`python -m tests.docs.inventory`: every public name is in the built site's index of names.

The index is `objects.inv`, by which other projects link to the reference.
"""

import importlib
import sys
import zlib

from .programs import ROOT

INVENTORY = ROOT / "docs" / "site" / "objects.inv"
MODULES = (
    "chrono_core",
    "chrono_core.lowlevel",
    "chrono_core.testing",
    "chrono_recipes",
    "chrono_zmq",
)


def main() -> int:
    data = INVENTORY.read_bytes()
    for _ in range(4):  # the head, in plain text
        _, data = data.split(b"\n", 1)
    listed = {line.split()[0] for line in zlib.decompress(data).decode().splitlines()}
    names = {
        f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__
    }
    missing = sorted(names - listed)
    for name in missing:
        print(f"{name} is not in {INVENTORY.name}: has a page of the reference `::: {name}`?")
    print(f"{len(names) - len(missing)} of {len(names)} public names are in the reference")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
