"""`python -m tests.wire.again`: the conformance and the fault suite, many times in a row.

Each time is a process of its own. It stops at the first failure, with exit code 1.
"""

import argparse
import subprocess
import sys
from pathlib import Path

SUITES = ("test_conformance.py", "test_faults.py")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.again", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", *(folder / suite for suite in SUITES)]
    for number in range(1, times + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        if done.returncode:
            print(*lines[-80:], done.stderr, f"failed, time {number} of {times}", sep="\n")
            return 1
        print(f"{number} of {times}: {lines[-1]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
