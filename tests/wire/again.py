"""`python -m tests.wire.again`: the conformance and the fault suite, many times in a row.

Each time is a run of its own, of several processes side by side, which may well be more than
there are cores: many tests wait, and one that depends on being fast should be found. It stops at
the first failure, with exit code 1.
"""

import argparse
import subprocess
import sys
from pathlib import Path

SUITES = ("test_conformance.py", "test_faults.py")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.again", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    times = options.times
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", str(options.processes)]
    command += [str(folder / suite) for suite in SUITES]
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
